import { expect, it } from 'vitest';
import {
  formatKnownLayers,
  layerEntry,
  MAX_KNOWN_LAYERS,
  MAX_POINTER_BYTES,
  mergeKnownLayers,
  parseKnownLayers,
  pointerEntry,
  pointerPrefix,
} from '../../src/cache/known-layers.ts';
import type { Digest } from '../../src/oci/types.ts';

const digest = (number: number): Digest => `sha256:${number.toString(16).padStart(64, '0')}`;
const mediaType = 'application/vnd.docker.image.rootfs.diff.tar.gzip';
const layer = (id: number, blob = id) => ({
  diffId: digest(id),
  descriptor: { mediaType, digest: digest(blob), size: 7 },
});

it('what is written is read back, and the longest document stays under the bound', () => {
  const many = Array.from({ length: MAX_KNOWN_LAYERS + 5 }, (_, at) => layer(at));
  const text = formatKnownLayers(many);
  expect(text.length).toBeLessThan(MAX_POINTER_BYTES);
  expect(parseKnownLayers(text)).toEqual(many.slice(0, MAX_KNOWN_LAYERS));
});

it('of two that name a layer the newer one counts', () => {
  expect(mergeKnownLayers([layer(1, 10)], [layer(1, 11), layer(2)])).toEqual([layer(1, 10), layer(2)]);
});

it.each([
  ['a size that is no size', { size: -1 }],
  ['a size no disk holds', { size: 2 ** 50 }],
  ['a media type of something else', { mediaType: 'application/vnd.oci.image.manifest.v1+json' }],
  ['an upper-case digest', { digest: digest(10).toUpperCase() }],
  ['a diffID that is a path', { diffId: '../../etc' }],
])('a row with %s is left out, the others are read', (_, wrong) => {
  const rows = JSON.parse(formatKnownLayers([layer(1), layer(2)]));
  Object.assign(rows.layers[0], wrong);
  expect(parseKnownLayers(JSON.stringify(rows))).toEqual([layer(2)]);
});

it('what is no such document gives nothing', () => {
  for (const text of [
    '',
    '[]',
    'null',
    '{"version":1}',
    '{"version":1,"layers":{}}',
    `${' '.repeat(MAX_POINTER_BYTES)}{}`,
  ])
    expect(parseKnownLayers(text)).toEqual([]);
});

it('no key is the beginning of another one’s', () => {
  const format = { compression: 'zstd', level: 3 } as const;
  const keys = [
    pointerPrefix(format, 'r/a').key,
    pointerPrefix({ ...format, level: 30 }, 'r/a').key,
    pointerPrefix(format, 'r/a/b').key,
    layerEntry(format, digest(1)).key,
    layerEntry({ ...format, level: 30 }, digest(1)).key,
  ];
  for (const key of keys) expect(keys.filter((other) => other.startsWith(key))).toEqual([key]);
  expect(pointerEntry(format, 'r/a', 'text').key.startsWith(keys[0]!)).toBe(true);
});

it('repositories come with a layer, few of them, and only names that can be one', () => {
  const [one, other] = [layer(1), layer(2)];
  const names = ['registry.example.com:5000/team/api', 'a/b', 'c/d', 'e/f', 'g/h'];
  const text = formatKnownLayers([{ ...one, repositories: names }, other]);
  expect(parseKnownLayers(text)).toEqual([{ ...one, repositories: names.slice(0, 4) }, other]);
  const hostile = ['team', '../x/y', 'host/a?b', 'host/A', `host/${'a'.repeat(200)}`, 'host/a\n::error::', 7, null];
  const document = { version: 1, layers: [{ diffId: one.diffId, ...one.descriptor, repositories: hostile }] };
  expect(parseKnownLayers(JSON.stringify(document))).toEqual([one]);
  const merged = mergeKnownLayers([{ ...one, repositories: ['a/b'] }], [{ ...one, repositories: ['c/d', 'a/b'] }]);
  expect(merged).toEqual([{ ...one, repositories: ['a/b', 'c/d'] }]);
});
