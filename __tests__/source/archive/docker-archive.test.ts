import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestOf, MediaType } from '../../../src/oci/types.ts';
import { walk } from '../../../src/oci/walk.ts';
import { findImage } from '../../../src/source/find/find.ts';
import type { StoreSource } from '../../../src/source/source.ts';
import { randomBelow } from '../../support/random.ts';
import { hashOf, tarOf } from '../fixtures.ts';

/**
 * Layers that come compressed in a docker-archive. `docker load` 20.10 and 28.5 unpack each against its diffID ("invalid diffID for
 * layer 0: expected …, got …"), and so does skopeo 1.9 when it copies; both accept gzip, zstd, xz and bzip2 by their first bytes.
 */
describe('compressed layers of a docker-archive', () => {
  let work: string;
  let layer: Buffer;
  let other: Buffer;
  let count = 0;

  beforeAll(async () => {
    work = mkdtempSync(join(tmpdir(), 'chunked-push-layers-'));
    const random = randomBelow('layers');
    layer = await tarOf([{ name: 'f', body: Buffer.from(Array.from({ length: 300_000 }, () => random(200))) }]);
    other = await tarOf([{ name: 'g', body: 'another layer' }]);
  });
  afterAll(() => rmSync(work, { recursive: true }));

  const signal = new AbortController().signal;
  const open = async (image: string): Promise<StoreSource> => {
    const found = await findImage({ image, engine: 'auto', signal, tempDir: work });
    const source = await found.open({ signal, debug: () => {}, notice: () => {} });
    if (source.kind !== 'store') throw new Error('a file is a store');
    return source;
  };
  const tool = (command: string, bytes: Buffer) => execFileSync(command, ['-c'], { input: bytes });
  const pack = {
    gzip: (bytes: Buffer) => gzipSync(bytes),
    'gzip of two members': (bytes: Buffer) =>
      Buffer.concat([gzipSync(bytes.subarray(0, 512)), gzipSync(bytes.subarray(512))]),
    zstd: (bytes: Buffer) => zstdCompressSync(bytes),
    'zstd of two frames': (bytes: Buffer) =>
      Buffer.concat([zstdCompressSync(bytes.subarray(0, 512)), zstdCompressSync(bytes.subarray(512))]),
    xz: (bytes: Buffer) => tool('xz', bytes),
    bzip2: (bytes: Buffer) => tool('bzip2', bytes),
  };
  type Packing = keyof typeof pack;
  const packings = Object.keys(pack) as Packing[];

  function files(layers: readonly (readonly [path: string, bytes: Buffer, diffIdOf: Buffer])[], before = '') {
    const diffIds = layers.map(([, , tar]) => digestOf(tar));
    const config = JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      rootfs: { type: 'layers', diff_ids: diffIds },
    });
    const list = [{ Config: `${before}c.json`, RepoTags: ['x:1'], Layers: layers.map(([path]) => before + path) }];
    return [
      { name: `${before}c.json`, body: config },
      ...layers.map(([path, body]) => ({ name: before + path, body })),
      { name: `${before}manifest.json`, body: JSON.stringify(list) },
    ];
  }
  async function archive(...args: Parameters<typeof files>): Promise<string> {
    count += 1;
    const path = join(work, `${count}.tar`);
    writeFileSync(path, await tarOf(files(...args)));
    return `docker-archive:${path}`;
  }

  it.each(['gzip', 'gzip of two members', 'zstd', 'zstd of two frames'] as const)(
    '%s stays as it is, byte for byte',
    async (packing) => {
      const bytes = pack[packing](layer);
      const store = await open(await archive([['l/layer.tar', bytes, layer]]));
      const { manifest } = walk(store.tree as never).manifests[0]!;
      const mediaType = packing.startsWith('gzip') ? MediaType.ociLayerGzip : MediaType.ociLayerZstd;
      expect(manifest.layers).toEqual([{ mediaType, digest: digestOf(bytes), size: bytes.length }]);
      expect((await hashOf((await store.open(digestOf(bytes)))!.read())).hash).toBe(digestOf(bytes));
      await store.close();
    },
  );

  it.each(['xz', 'bzip2'] as const)(
    '%s, which registries have no type for, is an uncompressed layer',
    async (packing) => {
      const store = await open(await archive([['l/layer.tar', pack[packing](layer), layer]]));
      expect(store.tree).toMatchObject({ kind: 'composed', diffIds: [digestOf(layer)] });
      const blob = (await store.open(digestOf(layer)))!;
      expect(blob).toMatchObject({ format: 'tar', seekable: false });
      for (let round = 0; round < 2; round += 1) expect((await hashOf(blob.read())).hash).toBe(digestOf(layer));
      await store.close();
    },
  );

  it('mixes all of them, and the same layer twice', async () => {
    const gzip = pack.gzip(other);
    const store = await open(
      await archive([
        ['1.tar', pack.xz(layer), layer],
        ['2.tar', gzip, other],
        ['3.tar', layer, layer],
        ['2.tar', gzip, other],
      ]),
    );
    expect(walk(store.tree as never).manifests[0]!.manifest.layers).toEqual([
      { mediaType: MediaType.ociLayer, digest: digestOf(layer), size: layer.length },
      { mediaType: MediaType.ociLayerGzip, digest: digestOf(gzip), size: gzip.length },
      { mediaType: MediaType.ociLayer, digest: digestOf(layer), size: layer.length },
      { mediaType: MediaType.ociLayerGzip, digest: digestOf(gzip), size: gzip.length },
    ]);
    await store.close();
  });

  it.each(packings)('%s: cut off, with a flipped bit, or another layer is refused', async (packing) => {
    const bytes = pack[packing](layer);
    const flipped = Buffer.from(bytes);
    flipped[bytes.length >> 1]! ^= 4;
    const damages: [string, Buffer, RegExp][] = [
      ['cut in half', bytes.subarray(0, bytes.length >> 1), /can't be decompressed|unpacks to the diffID/],
      ['without its last bytes', bytes.subarray(0, -3), /can't be decompressed/],
      ['one bit flipped', flipped, /can't be decompressed|unpacks to the diffID/],
      ['another layer', pack[packing](other), /unpacks to the diffID/],
      ['packed twice', pack[packing](bytes), /unpacks to the diffID/],
    ];
    for (const [what, damaged, message] of damages) {
      const image = await archive([
        ['good.tar', pack.gzip(other), other],
        ['bad.tar', damaged, layer],
      ]);
      await expect(open(image), what).rejects.toThrow(message);
    }
  });

  it('refuses a layer whose config names the digest of the compressed bytes: nobody could unpack it', async () => {
    const bytes = pack.gzip(layer);
    await expect(open(await archive([['l.tar', bytes, bytes]]))).rejects.toThrow('unpacks to the diffID');
  });

  // https://github.com/containers/skopeo/issues/999; docker load and skopeo accept it.
  it('accepts ./ before the names in manifest.json, and in the archive', async () => {
    for (const entries of ['', './']) {
      const bytes = await tarOf(
        files([['l/layer.tar', layer, layer]], './').map((one) => ({ ...one, name: entries + one.name.slice(2) })),
      );
      writeFileSync(join(work, 'dot.tar'), bytes);
      const store = await open(`docker-archive:${join(work, 'dot.tar')}`);
      expect((await hashOf((await store.open(digestOf(layer)))!.read())).hash).toBe(digestOf(layer));
      await store.close();
    }
  });

  describe('in a folder whose files are links', () => {
    let folder: string;
    const elsewhere = () => join(work, 'elsewhere');
    const folderOf = (name: string, ...args: Parameters<typeof files>) => {
      folder = join(work, name);
      mkdirSync(folder);
      mkdirSync(elsewhere(), { recursive: true });
      for (const entry of files(...args)) writeFileSync(join(folder, entry.name), entry.body);
      return `oci:${folder}`;
    };
    const linkOut = (name: string, bytes: Buffer | string) => {
      writeFileSync(join(elsewhere(), name), bytes);
      rmSync(join(folder, name), { force: true });
      symlinkSync(join('..', 'elsewhere', name), join(folder, name));
    };

    it('takes what is the right layer for certain, and nothing else', async () => {
      const image = folderOf('right', [
        ['1.tar', layer, layer],
        ['2.tar', pack.gzip(other), other],
      ]);
      linkOut('1.tar', layer);
      linkOut('2.tar', pack.gzip(other));
      await (await open(image)).close();
      linkOut('1.tar', other);
      await expect(open(image)).rejects.toThrow(`has the diffID ${digestOf(other)}`);
      linkOut('1.tar', pack.xz(other));
      await expect(open(image)).rejects.toThrow('unpacks to the diffID');
      linkOut('1.tar', 'a secret of the machine');
      const error = (await open(image).catch((reason: unknown) => reason)) as Error;
      expect(error.message).toContain('is neither a tar file');
      expect(`${error.message} ${error.stack}`).not.toContain('a secret');
    });

    it.each(['manifest.json', 'c.json'])('does not read %s outside of it', async (name) => {
      const image = folderOf(`list-${name}`, [['1.tar', layer, layer]]);
      linkOut(name, 'a secret of the machine');
      await expect(open(image)).rejects.toThrow('is a link that leads out of the folder');
    });
  });
});
