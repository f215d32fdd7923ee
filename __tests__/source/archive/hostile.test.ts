import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ImageError } from '../../../src/common/error.ts';
import { type Digest, digestOf } from '../../../src/oci/types.ts';
import { walk } from '../../../src/oci/walk.ts';
import { findImage } from '../../../src/source/find/find.ts';
import { randomBelow } from '../../support/random.ts';
import { DOCKER20, DOCKER28, fixture, readAll, streamOf, type TarEntry, tarOf } from '../fixtures.ts';

let work: string;
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'chunked-push-hostile-'));
});
afterAll(() => rmSync(work, { recursive: true, force: true }));

const hex = (digest: Digest) => digest.slice(7);
const layer = await tarOf([{ name: 'a', body: 'hello' }]);
const diffId = digestOf(layer);
const config = Buffer.from(
  JSON.stringify({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [diffId] } }),
);
const list = (text: object) => JSON.stringify([text]);
const entries: readonly TarEntry[] = [
  { name: `${hex(diffId)}.tar`, body: layer },
  { name: `${hex(digestOf(config))}.json`, body: config },
  {
    name: 'manifest.json',
    body: list({ Config: `${hex(digestOf(config))}.json`, RepoTags: ['x:1'], Layers: [`${hex(diffId)}.tar`] }),
  },
];
const asked = { name: 'x:1', imageId: digestOf(config), diffIds: [diffId] };

/** Reads an archive whole as a stream; gives the error. */
async function streamed(bytes: Buffer): Promise<unknown> {
  const source = streamOf(bytes, asked);
  try {
    await readAll(source);
    source.tree();
    return undefined;
  } catch (error) {
    return error;
  }
}

let files = 0;

/** Reads an archive whole as a file; gives the error. */
async function asFile(bytes: Buffer): Promise<unknown> {
  files += 1;
  const path = join(work, `${files}.tar`);
  writeFileSync(path, bytes);
  const signal = new AbortController().signal;
  try {
    const found = await findImage({ image: `docker-archive:${path}`, engine: 'auto', signal, tempDir: work });
    const source = await found.open({ signal, debug: () => {}, notice: () => {} });
    if (source.kind !== 'store') throw new Error('a file is a store');
    try {
      const digests =
        source.tree.kind === 'composed' ? source.tree.diffIds : walk(source.tree).blobs.map(({ digest }) => digest);
      for (const digest of digests) await drain((await source.open(digest))?.read());
    } finally {
      await source.close();
    }
    return undefined;
  } catch (error) {
    return error;
  } finally {
    rmSync(path);
  }
}

async function drain(stream: AsyncIterable<unknown> | undefined): Promise<void> {
  const sha = createHash('sha256');
  for await (const chunk of stream ?? []) sha.update(chunk as Buffer);
}

const withEntry = (...more: TarEntry[]) => tarOf([...more, ...entries]);

describe('an archive made to harm, or broken', () => {
  it('has folders that say they have a body, and is not waited for', async () => {
    const folder = lying(await tarOf([{ name: 'd', type: 'directory' }]), '00000001000').subarray(0, 512);
    const bytes = Buffer.concat([folder, await tarOf(entries)]);
    expect(await streamed(bytes)).toBeUndefined();
    expect(await asFile(bytes)).toBeUndefined();
  });

  it('is read when nothing is wrong with it', async () => {
    const whole = await withEntry({ name: './extra', body: 'x' }, { name: 'l', type: 'symlink', linkname: 'extra' });
    expect(await streamed(whole)).toBeUndefined();
    expect(await asFile(whole)).toBeUndefined();
  });

  it.each<[string, () => Promise<Buffer>, RegExp]>([
    [
      'an absolute name',
      () => withEntry({ name: '/etc/passwd', body: 'x' }),
      /an absolute name in it: "\/etc\/passwd"/,
    ],
    ['a name with ..', () => withEntry({ name: 'a/../../b', body: 'x' }), /a name that leads out/],
    [
      'a symlink out',
      () => withEntry({ name: 'a/layer.tar', type: 'symlink', linkname: '../../x' }),
      /a link that leads out/,
    ],
    [
      'an absolute symlink',
      () => withEntry({ name: 'a', type: 'symlink', linkname: '/etc/shadow' }),
      /a link that leads out/,
    ],
    ['a hard link out', () => withEntry({ name: 'a', type: 'link', linkname: '../x' }), /a link that leads out/],
    ['two lists', () => withEntry({ name: 'manifest.json', body: '[]' }), /has manifest\.json twice/],
    [
      'an absurd list',
      () => withEntry({ name: 'manifest.json', body: Buffer.alloc(5 << 20, 0x20) }),
      /has 5242880 bytes, more than|twice/,
    ],
    ['a truncated body', async () => (await withEntry()).subarray(0, 1000), /ends|cut off/],
    ['a truncated header', async () => (await withEntry()).subarray(0, 700), /ends|cut off/],
    [
      'a broken header',
      async () => Buffer.concat([(await withEntry()).subarray(0, 2560), Buffer.alloc(512, 0x41)]),
      /header/,
    ],
    ['a lying size', async () => lying(await withEntry(), '77777777777'), /ends|cut off/],
    ['a size that is no number', async () => lying(await withEntry(), 'zzzzzzzzzzz'), /Invalid header|header/],
    ['no tar file at all', async () => Buffer.alloc(2000, 0x61), /neither a tar file|header/],
  ])('%s', async (_, make, message) => {
    const bytes = await make();
    for (const error of [await streamed(bytes), await asFile(bytes)]) {
      expect(error).toBeInstanceOf(ImageError);
      expect((error as Error).message).toMatch(message);
      expect((error as Error).message).not.toContain('\n');
    }
  });

  it('a config whose bytes are not those of its name', async () => {
    const broken = entries.map((entry) =>
      entry.name.endsWith('.json') && entry.name !== 'manifest.json' ? { name: entry.name, body: `${config} ` } : entry,
    );
    for (const error of [await streamed(await tarOf(broken)), await asFile(await tarOf(broken))]) {
      expect(error).toBeInstanceOf(ImageError);
      expect((error as Error).message).toMatch(/is damaged: its bytes have the digest/);
    }
  });

  it('a missing config, and a list that names what is not there', async () => {
    const bytes = await tarOf(entries.filter(({ name }) => name === 'manifest.json' || name.endsWith('.tar')));
    expect(await streamed(bytes)).toMatchObject({
      name: 'ImageError',
      message: expect.stringContaining('does not hold the image x:1'),
    });
    expect(await asFile(bytes)).toMatchObject({
      name: 'ImageError',
      message: expect.stringContaining('lacks the config'),
    });
    const noLayer = await tarOf(entries.slice(1));
    expect(await asFile(noLayer)).toMatchObject({
      name: 'ImageError',
      message: expect.stringContaining('lacks the layer'),
    });
    const out = await tarOf([
      { name: 'manifest.json', body: list({ Config: '../../etc/passwd', RepoTags: [], Layers: [] }) },
    ]);
    expect(await asFile(out)).toMatchObject({
      name: 'ImageError',
      message: expect.stringContaining('leads out of the archive'),
    });
  });

  it("a layer that is none, and a number of layers that is not the config's", async () => {
    const text = await tarOf([{ name: entries[0]!.name, body: 'hello' }, ...entries.slice(1)]);
    expect(await asFile(text)).toMatchObject({
      name: 'ImageError',
      message: expect.stringContaining('neither a tar file nor'),
    });
    const two = list({ Config: entries[1]!.name, RepoTags: [], Layers: [entries[0]!.name, entries[0]!.name] });
    const doubled = await tarOf([...entries.slice(0, 2), { name: 'manifest.json', body: two }]);
    expect(await asFile(doubled)).toMatchObject({
      name: 'ImageError',
      message: expect.stringContaining('names 2 layers'),
    });
  });

  it('links that lead to each other', async () => {
    const [first, second] = ['a/layer.tar', 'b/layer.tar'];
    const looped = await tarOf([
      { name: first, type: 'symlink', linkname: '../b/layer.tar' },
      { name: second, type: 'symlink', linkname: '../a/layer.tar' },
      entries[1]!,
      { name: 'manifest.json', body: list({ Config: entries[1]!.name, RepoTags: [], Layers: [first] }) },
    ]);
    expect(await asFile(looped)).toMatchObject({
      name: 'ImageError',
      message: expect.stringContaining('lead to each other'),
    });
  });

  it('more entries, or more JSON, than any image has', async () => {
    const many = Buffer.alloc(100_001 * 512);
    const header = (await tarOf([{ name: 'd', type: 'directory' }])).subarray(0, 512);
    for (let at = 0; at < many.length; at += 512) header.copy(many, at);
    for (const error of [await streamed(many), await asFile(many)]) {
      expect(error).toMatchObject({ name: 'ImageError', message: expect.stringContaining('more than 100000 entries') });
    }
    const documents: TarEntry[] = [];
    for (let i = 0; i < 17; i += 1) {
      const body = Buffer.from(`{"i":${i},"pad":"${'x'.repeat(4 * 1024 * 1024 - 30)}"}`);
      documents.push({ name: `blobs/sha256/${hex(digestOf(body))}`, body });
    }
    expect(await streamed(await tarOf(documents))).toMatchObject({ message: expect.stringContaining('bytes of JSON') });
  });

  it('never hangs and never ends in an error without a name, whatever bytes are damaged', async () => {
    const random = randomBelow('damaged archives');
    const originals = ['docker20-overlay2', 'docker28-overlay2', 'podman43-docker-archive', 'docker28-containerd'];
    let broken = 0;
    for (let round = 0; round < 600; round += 1) {
      const bytes = Buffer.from(fixture(`${originals[round % originals.length]}.tar`));
      for (let i = random(4); i >= 0; i -= 1) damage(bytes, random);
      const cut = random(3) === 0 ? bytes.subarray(0, random(bytes.length)) : bytes;
      const { config: imageId, diffIds } = round % 2 ? DOCKER20 : DOCKER28;
      const source = streamOf(cut, { name: 'fx:one', imageId, diffIds }, 1 + random(2000));
      const errors = [
        await readAll(source)
          .then(() => source.tree())
          .then(
            () => undefined,
            (error: unknown) => error,
          ),
        await asFile(cut),
      ];
      for (const error of errors) {
        if (error !== undefined) expect(error).toBeInstanceOf(ImageError);
        if (error !== undefined) broken += 1;
      }
    }
    expect(broken).toBeGreaterThan(300);
  });
});

/** The archive with another size in its first header, and the checksum that fits. */
function lying(bytes: Buffer, octal: string): Buffer {
  bytes.write(octal, 124, 'latin1');
  bytes.fill(0x20, 148, 156);
  const sum = bytes.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return bytes;
}

/** Changes a byte anywhere, or bytes of a header with its checksum made right again. */
function damage(bytes: Buffer, random: (below: number) => number): void {
  const block = random(bytes.length / 512) * 512;
  const at = block + random(512);
  bytes[at] = random(256);
  if (random(2)) lying(bytes.subarray(block, block + 512), random(0o7777777).toString(8).padStart(11, '0'));
}
