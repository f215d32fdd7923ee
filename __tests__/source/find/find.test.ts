import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { type Digest, digestOf, MediaType } from '../../../src/oci/types.ts';
import { walk } from '../../../src/oci/walk.ts';
import { CONTAINERD, DOCKER20, DOCKER28, fixture, fixturePath, PODMAN_OCI, type TarEntry, tarOf } from '../fixtures.ts';
import { failure, find, opening, openWhole, path, work, write } from './found.ts';

describe('archives of real engines, as files', () => {
  it.each([
    ['docker20-overlay2', '', DOCKER20],
    ['podman43-docker-archive', '', DOCKER20],
    ['docker20-overlay2', ':fx:one', DOCKER20],
    ['podman43-docker-archive', ':localhost/fx:one', DOCKER20],
  ])('%s%s is a composed image', async (name, ref, { config, diffIds }) => {
    const found = await find(`docker-archive:${fixturePath(`${name}.tar`)}${ref}`);
    expect(found).toMatchObject({ imageId: config, diffIds });
    expect(found.root).toBeUndefined();
    const { store, blobs } = await openWhole(found);
    expect(new Set(blobs)).toEqual(new Set(diffIds));
    expect(store.tree.kind === 'composed' && digestOf(store.tree.config)).toBe(config);
    await store.close();
  });

  it.each([
    ['docker28-containerd', '', CONTAINERD.one, CONTAINERD.one],
    ['docker28-containerd-multi', ':fx:multi', CONTAINERD.multi, CONTAINERD.multi],
    ['docker28-containerd-multi-arm64', ':multi', CONTAINERD.arm64, CONTAINERD.configArm64],
    ['podman43-oci-archive', ':localhost/fx:one', PODMAN_OCI.manifest, PODMAN_OCI.config],
  ])('%s%s keeps its manifests', async (name, ref, root, imageId) => {
    for (const transport of ['docker-archive', 'oci-archive']) {
      const found = await find(`${transport}:${fixturePath(`${name}.tar`)}${ref}`);
      expect(found).toMatchObject({ root, imageId });
      const { store, blobs } = await openWhole(found);
      expect(store.tree).toMatchObject({ kind: 'manifests', root: { digest: root }, absent: [] });
      const { blobs: named } = walk(store.tree as never);
      expect(blobs).toHaveLength(named.length);
      await store.close();
    }
  });

  it('docker28-overlay2: plain layers under a manifest, which is not what a push gives', async () => {
    const found = await find(`oci-archive:${fixturePath('docker28-overlay2.tar')}`);
    expect(found).toMatchObject({ imageId: DOCKER28.config, diffIds: DOCKER28.diffIds });
    expect(found.root).toBeUndefined();
    const { store, blobs } = await openWhole(found);
    expect(blobs).toEqual(expect.arrayContaining([...DOCKER28.diffIds]));
    for (const diffId of DOCKER28.diffIds)
      expect(await store.open(diffId)).toMatchObject({ format: 'tar', seekable: true });
    await store.close();
  });

  it('docker28-containerd-absent-platform: names what is not there', async () => {
    const found = await find(`docker-archive:${fixturePath('docker28-containerd-absent-platform.tar')}`);
    const { store } = await openWhole(found);
    expect(store.tree.kind === 'manifests' && store.tree.absent).toHaveLength(3);
    expect(await store.open(CONTAINERD.arm64)).toBeUndefined();
    await store.close();
  });

  it('chooses among several by name, tag, digest or position, and lists them otherwise', async () => {
    const file = fixturePath('docker28-overlay2-two-images.tar');
    const id = async (ref: string) => {
      const found = await find(`docker-archive:${file}${ref}`);
      await (await found.open(opening)).close();
      return found.imageId;
    };
    expect(await id(':fx:one')).toBe(DOCKER28.config);
    expect(await id(':docker.io/library/fx:two')).toBe(DOCKER28.config);
    expect(await id(':other')).toBe(DOCKER28.other);
    expect(await id(':@2')).toBe(DOCKER28.other);
    expect(await id(':sha256:4728f977c3fbff06c59228e8637f46cd262e37a12677f8f0503796d7933a7be3')).toBe(DOCKER28.other);
    const several = await failure(find(`docker-archive:${file}`));
    expect(several.message).toMatch(/holds several images; it holds docker\.io\/library\/fx:one, one, .*fx:other/);
    expect(several.remedy).toContain('choose one by its name');
    expect((await failure(find(`docker-archive:${file}:fx:three`))).message).toContain(
      'holds no image fx:three; it holds',
    );
  });

  it('can be opened again after it was closed, though it came out of a pipe', async () => {
    const fifo = path('pipe');
    execFileSync('mkfifo', [fifo]);
    const writer = spawn('sh', ['-c', 'cat "$0" > "$1"', fixturePath('docker20-overlay2.tar'), fifo]);
    const ended = once(writer, 'close');
    const fd = openSync(fifo, 'r');
    const found = await find(`docker-archive:/dev/fd/${fd}:fx:one`);
    expect(await ended).toEqual([0, null]);
    expect(found).toMatchObject({ imageId: DOCKER20.config, diffIds: DOCKER20.diffIds });
    for (let round = 0; round < 3; round += 1) await (await openWhole(found)).store.close();
  });

  it('can be opened again after it was closed', async () => {
    const found = await find(`docker-archive:${fixturePath('docker20-overlay2.tar')}`);
    for (let round = 0; round < 2; round += 1) await (await openWhole(found)).store.close();
  });

  it.each([
    ['gz', gzipSync],
    ['zst', zstdCompressSync],
  ])('decompresses an archive once, and leaves nothing behind: %s', async (ending, compress) => {
    const spool = path(`spool-${ending}`);
    mkdirSync(spool);
    const file = write(`a.tar.${ending}`, compress(fixture('docker28-overlay2.tar')));
    const found = await find(`docker-archive:${file}`, { tempDir: spool });
    expect(readdirSync(spool)).toEqual([]);
    const { store, blobs } = await openWhole(found);
    expect(blobs.length).toBeGreaterThan(3);
    await store.close();
    const cut = write(`cut.tar.${ending}`, readFileSync(file).subarray(0, 900));
    const error = await failure(find(`docker-archive:${cut}`, { tempDir: spool }));
    expect(error.message).toContain(`archive ${cut} can't be decompressed`);
    expect(readdirSync(spool)).toEqual([]);
  });
});

describe('archives of other tools', () => {
  const layer = (text: string) => tarOf([{ name: 'f', body: text }]);

  it('keeps layers that are compressed already, and compresses the others later', async () => {
    const [one, two] = [await layer('one'), await layer('two')];
    const packed = gzipSync(two);
    const config = Buffer.from(
      JSON.stringify({
        os: 'linux',
        architecture: 'amd64',
        rootfs: { type: 'layers', diff_ids: [digestOf(one), digestOf(two)] },
      }),
    );
    const entries: TarEntry[] = [
      { name: 'sha256:config', body: config },
      { name: './one.tar', body: one },
      { name: 'two.tar.gz', body: packed },
      {
        name: 'manifest.json',
        body: JSON.stringify([{ Config: 'sha256:config', RepoTags: null, Layers: ['one.tar', 'two.tar.gz'] }]),
      },
    ];
    const found = await find(`docker-archive:${write('ko.tar', await tarOf(entries))}`);
    expect(found.imageId).toBe(digestOf(config));
    const { store } = await openWhole(found);
    const manifest = walk(store.tree as never).manifests[0]!.manifest;
    expect(manifest.layers.map(({ mediaType, digest }) => [mediaType, digest])).toEqual([
      [MediaType.ociLayer, digestOf(one)],
      [MediaType.ociLayerGzip, digestOf(packed)],
    ]);
    await store.close();
  });

  it('takes a layer of the very bytes of its diffID for a plain one, magic or not', async () => {
    const old = await layer('old');
    old.fill(0, 257, 265);
    const empty = Buffer.alloc(0);
    const config = JSON.stringify({ rootfs: { type: 'layers', diff_ids: [digestOf(old), digestOf(empty)] } });
    const archive = await tarOf([
      { name: 'c', body: config },
      { name: '1.tar', body: old },
      { name: '2.tar', body: empty },
      { name: 'manifest.json', body: JSON.stringify([{ Config: 'c', Layers: ['1.tar', '2.tar'] }]) },
    ]);
    const { store, blobs } = await openWhole(await find(`docker-archive:${write('old.tar', archive)}`));
    expect(store.tree.kind).toBe('composed');
    expect(blobs).toEqual([digestOf(old), digestOf(empty)]);
    await store.close();
  });

  it('keeps the URLs of foreign layers', async () => {
    const diffId: Digest = `sha256:${'1'.repeat(64)}`;
    const source = {
      mediaType: MediaType.dockerForeignLayer,
      digest: `sha256:${'2'.repeat(64)}`,
      size: 5,
      urls: ['https://mcr.example/x'],
    };
    const config = JSON.stringify({
      os: 'windows',
      architecture: 'amd64',
      rootfs: { type: 'layers', diff_ids: [diffId] },
    });
    const archive = await tarOf([
      { name: 'c.json', body: config },
      {
        name: 'manifest.json',
        body: JSON.stringify([
          { Config: 'c.json', RepoTags: ['w:1'], Layers: ['x/layer.tar'], LayerSources: { [diffId]: source } },
        ]),
      },
    ]);
    const found = await find(`docker-archive:${write('windows.tar', archive)}`);
    const { store, blobs } = await openWhole(found);
    expect(walk(store.tree as never).manifests[0]!.manifest.layers[0]).toMatchObject({
      urls: source.urls,
      digest: source.digest,
    });
    expect(blobs).toEqual([digestOf(Buffer.from(config))]);
    await store.close();
  });
});

describe('a path of a Windows drive', () => {
  it('keeps its colon; the next one begins the reference', async () => {
    // The names are file names here, in the current folder, and found as they are written.
    const folder = mkdtempSync(join(work, 'windows-'));
    writeFileSync(join(folder, 'C:\\images\\app.tar'), readFileSync(fixturePath('docker28-overlay2-two-images.tar')));
    const system = process.platform;
    const before = process.cwd();
    process.chdir(folder);
    Object.defineProperty(process, 'platform', { value: 'win32' });
    try {
      for (const [ref, imageId] of [
        ['fx:one', DOCKER28.config],
        ['other', DOCKER28.other],
      ]) {
        const found = await find(`docker-archive:C:\\images\\app.tar:${ref}`);
        await (await found.open(opening)).close();
        expect(found.imageId).toBe(imageId);
      }
      const wrong = await failure(find('docker-archive:C:\\images\\none.tar:app:1'));
      expect(wrong.message).toContain('C:\\images\\none.tar does not exist');
    } finally {
      Object.defineProperty(process, 'platform', { value: system });
      process.chdir(before);
    }
  });
});
