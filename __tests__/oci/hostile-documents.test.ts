/** Documents with any field of another value, or no JSON, through all that reads them. */
import { expect, it } from 'vitest';
import { ImageError } from '../../src/common/error.ts';
import { buildTree } from '../../src/oci/image-tree.ts';
import { selectPlatforms } from '../../src/oci/platforms.ts';
import { rewriteTree } from '../../src/oci/rewrite.ts';
import { MediaType } from '../../src/oci/types.ts';
import { walk } from '../../src/oci/walk.ts';
import { CONTAINERD, fixture, readAll, streamOf } from '../source/fixtures.ts';
import { randomBelow } from '../support/random.ts';
import { blob } from './trees.ts';

it('never ends in an error without a name, whatever the documents say', async () => {
  const source = streamOf(fixture('docker28-containerd-multi.tar'), {
    name: 'fx',
    imageId: CONTAINERD.multi,
    diffIds: CONTAINERD.diffIds,
  });
  await readAll(source);
  const whole = source.tree();
  if (whole?.kind !== 'manifests') throw new Error('manifests');
  const random = randomBelow('documents');
  const values = [
    null,
    0,
    -1,
    1e99,
    '',
    'x',
    [],
    {},
    [[]],
    true,
    { mediaType: 5 },
    'sha256:',
    CONTAINERD.multi,
    MediaType.ociIndex,
    nested(20_000),
  ];
  let refused = 0;
  for (let round = 0; round < 2000; round += 1) {
    const documents = new Map(
      [...whole.documents].map(([digest, bytes]) => [digest, random(3) ? bytes : garbled(bytes, values, random)]),
    );
    try {
      const built = buildTree(random(4) ? whole.root : whole.root.digest, documents);
      if (!built) continue;
      const { tree } = selectPlatforms(built.tree, random(2) ? [] : ['linux/arm64']);
      walk(rewriteTree(tree, new Map([[CONTAINERD.layers[0]!, blob('z')]])));
    } catch (error) {
      expect(error).toBeInstanceOf(ImageError);
      refused += 1;
    }
  }
  expect(refused).toBeGreaterThan(500);
});

/** A document with one field, anywhere in it, of another value; or bytes that are no JSON. */
function garbled(bytes: Buffer, values: readonly unknown[], random: (below: number) => number): Buffer {
  if (random(10) === 0) return bytes.subarray(0, random(bytes.length));
  const document = JSON.parse(bytes.toString()) as Record<string, unknown>;
  let holder = document;
  for (;;) {
    const keys = Object.keys(holder);
    const key = keys[random(keys.length)];
    if (key === undefined) break;
    const value = holder[key];
    if (value !== null && typeof value === 'object' && random(3)) {
      holder = value as Record<string, unknown>;
      continue;
    }
    holder[key] = values[random(values.length)];
    break;
  }
  return Buffer.from(stringified(document));
}

const DEEP = '"deep"';
const nested = (depth: number): object => ({ toJSON: () => 'deep', depth });
/** JSON.stringify can't write what is nested too deep; an attacker can. */
const stringified = (value: unknown): string =>
  JSON.stringify(value).replace(DEEP, `${'['.repeat(20_000)}${']'.repeat(20_000)}`);
