import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ImageError } from '../../../src/common/error.ts';
import type { ImageTree } from '../../../src/oci/image-tree.ts';
import { type Descriptor, type Digest, digestOf, MediaType } from '../../../src/oci/types.ts';
import { walk } from '../../../src/oci/walk.ts';
import { type FindOptions, findImage } from '../../../src/source/find/find.ts';
import type { FoundImage, OpenOptions, StoreSource } from '../../../src/source/source.ts';
import {
  CONTAINERD,
  DOCKER20,
  DOCKER28,
  fixture,
  fixturePath,
  hashOf,
  inspectOf,
  PODMAN_OCI,
  readAll,
  type TarEntry,
  tarOf,
} from '../fixtures.ts';

let work: string;
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'chunked-push-find-'));
});
afterAll(() => rmSync(work, { recursive: true, force: true }));

const never = new AbortController().signal;
const opening = { signal: never, debug: () => {}, notice: () => {} };
const find = (image: string, more: Partial<FindOptions> = {}) =>
  findImage({ image, engine: 'auto', signal: never, tempDir: work, ...more });
const path = (name: string) => join(work, name);
const write = (name: string, bytes: Buffer | string) => {
  writeFileSync(path(name), bytes);
  return path(name);
};

async function failure(work: Promise<unknown>): Promise<ImageError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ImageError);
  return error as ImageError;
}

/** Opens a file source and checks every blob of it that is there against its digest. Gives the digests of those. */
async function openWhole(found: FoundImage): Promise<{ store: StoreSource; blobs: Digest[] }> {
  const store = await found.open(opening);
  if (store.kind !== 'store') throw new Error('a file is a store');
  const wanted =
    store.tree.kind === 'composed' ? store.tree.diffIds : walk(store.tree).blobs.map(({ digest }) => digest);
  const blobs: Digest[] = [];
  for (const digest of new Set(wanted)) {
    const blob = await store.open(digest);
    if (!blob) continue;
    expect(await hashOf(blob.read())).toEqual({ hash: digest, size: blob.size });
    blobs.push(digest);
    const part = await hashOf(blob.read(1, 3));
    expect(part.size).toBe(Math.max(0, Math.min(3, blob.size ?? 0) - 1));
  }
  return { store, blobs };
}

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

/** Writes an OCI layout folder. */
class Layout {
  readonly folder: string;

  constructor(name: string) {
    this.folder = path(name);
    mkdirSync(join(this.folder, 'blobs/sha256'), { recursive: true });
    writeFileSync(join(this.folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  }

  blob(content: Buffer | string | object, mediaType: string, more: object = {}) {
    const bytes =
      Buffer.isBuffer(content) || typeof content === 'string'
        ? Buffer.from(content as string)
        : Buffer.from(JSON.stringify(content));
    const digest = digestOf(bytes);
    writeFileSync(join(this.folder, 'blobs/sha256', digest.slice(7)), bytes);
    return { mediaType, digest, size: bytes.length, ...more };
  }

  index(...manifests: object[]): this {
    writeFileSync(join(this.folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
    return this;
  }
}

describe('OCI layouts', () => {
  const named = (name: string) => ({ annotations: { 'org.opencontainers.image.ref.name': name } });
  const weights = (layout: Layout, text: string, more: object = {}) => {
    const config = layout.blob({}, 'application/vnd.oci.empty.v1+json', { data: 'e30=' });
    const layers = [
      layout.blob(text, 'application/vnd.example.weights'),
      layout.blob({ json: text }, 'application/json'),
    ];
    return layout.blob(
      { schemaVersion: 2, artifactType: 'application/vnd.example.model', config, layers, ...more },
      MediaType.ociManifest,
    );
  };

  it('holds artifacts', async () => {
    const layout = new Layout('artifact');
    const artifact = weights(layout, 'w');
    const found = await find(`oci:${layout.index(artifact).folder}`);
    expect(found).toMatchObject({ root: artifact.digest, imageId: digestOf(Buffer.from('{}')) });
    const { store, blobs } = await openWhole(found);
    expect(blobs).toHaveLength(3);
    await store.close();
  });

  it('takes content that travels in its descriptor', async () => {
    const layout = new Layout('embedded');
    const artifact = weights(layout, 'w');
    rmSync(join(layout.folder, 'blobs/sha256', digestOf(Buffer.from('{}')).slice(7)));
    const { store, blobs } = await openWhole(await find(`oci:${layout.index(artifact).folder}`));
    expect(blobs).toContain(digestOf(Buffer.from('{}')));
    await store.close();
  });

  it('takes the one that is signed when nothing is said, and the signatures with it', async () => {
    const layout = new Layout('signed');
    const model = weights(layout, 'model');
    const signature = weights(layout, 'signature', { subject: model });
    const other = weights(layout, 'other signature', { subject: signature });
    layout.index(other, signature, { ...model, ...named('v1') });
    for (const ref of ['', ':v1', `:${model.digest}`]) {
      const found = await find(`oci:${layout.folder}${ref}`);
      expect(found.root).toBe(model.digest);
      const { store } = await openWhole(found);
      expect(walk(store.tree as never).documents.map(({ descriptor }) => descriptor.digest)).toEqual([
        model.digest,
        signature.digest,
        other.digest,
      ]);
      await store.close();
    }
  });

  it('reads indexes in indexes, and follows links to where a build tool has its blobs', async () => {
    const layout = new Layout('nested');
    const [one, two] = [weights(layout, 'one'), weights(layout, 'two')];
    const inner = layout.blob({ schemaVersion: 2, manifests: [one] }, MediaType.ociIndex);
    const outer = layout.blob({ schemaVersion: 2, manifests: [inner, two] }, MediaType.ociIndex);
    const elsewhere = path('elsewhere');
    const file = join(layout.folder, 'blobs/sha256', one.digest.slice(7));
    writeFileSync(elsewhere, readFileSync(file));
    rmSync(file);
    symlinkSync(elsewhere, file);
    const { store, blobs } = await openWhole(await find(`oci:${layout.index(outer).folder}`));
    expect(walk(store.tree as never)).toMatchObject({ manifests: [{}, {}], indexes: [{}, {}] });
    expect(blobs).toHaveLength(5);
    await store.close();
  });

  it('names what is wrong', async () => {
    const layout = new Layout('wrong');
    const artifact = weights(layout, 'w');
    const at = (...manifests: object[]) => failure(find(`oci:${layout.index(...manifests).folder}`));
    expect((await at()).message).toContain('holds no image');
    expect((await at({ ...artifact, size: 1 })).message).toMatch(/has \d+ bytes where its descriptor says 1/);
    expect((await at({ ...artifact, digest: `sha256:${'0'.repeat(64)}` })).message).toContain('and does not hold it');
    writeFileSync(join(layout.folder, 'blobs/sha256', artifact.digest.slice(7)), '{}');
    expect((await at(artifact)).message).toContain('is damaged: its bytes have the digest');
    writeFileSync(join(layout.folder, 'index.json'), 'no json');
    expect((await failure(find(`oci:${layout.folder}`))).message).toBe('index.json is not JSON');
    rmSync(join(layout.folder, 'index.json'));
    expect((await failure(find(`oci:${layout.folder}`))).message).toContain(
      'holds no image: neither index.json nor manifest.json',
    );
    expect((await failure(find(`oci:${path('nowhere')}`))).message).toBe(
      `the OCI layout ${path('nowhere')} does not exist`,
    );
    expect((await failure(find(`oci-archive:${layout.folder}`))).remedy).toBe(`write oci:${layout.folder}`);
    expect((await failure(find(`oci:${write('f', 'x')}`))).remedy).toBe(`write oci-archive:${path('f')}`);
    expect((await failure(find('oci:'))).message).toBe('oci: names no folder');
    expect((await failure(find('docker://r.example/a'))).message).toContain('is not a source of images here');
  });
});

describe('engines', () => {
  /** A PATH with tools that answer as these scripts say, beside the system's own sh and mkfifo. */
  const pathWith = (name: string, tools: Record<string, string>) => {
    const folder = path(name);
    mkdirSync(folder);
    for (const [tool, script] of Object.entries(tools)) {
      writeFileSync(join(folder, tool), `#!/bin/sh\n${script}\n`);
      chmodSync(join(folder, tool), 0o755);
    }
    for (const tool of ['sh', 'cat', 'mkfifo', 'sleep']) symlinkSync(`/bin/${tool}`, join(folder, tool));
    return { PATH: folder };
  };
  const engineOf = (archive: string, inspect: string) =>
    `case "$1 $2" in
      "image inspect") cat '${inspect}';;
      "save "*) shift $(($# - 1)); echo "$1" > '${path('asked')}'; cat '${fixturePath(archive)}';;
      *) exit 9;;
    esac`;
  const missing = (words: string) => `echo '[]'; echo '${words}' >&2; exit 1`;

  it('asks docker first, then podman, and saves by ID', async () => {
    const inspect = fixturePath('podman43.inspect.json');
    const env = pathWith('both', {
      docker: missing('Error: No such image: fx:one'),
      podman: engineOf('podman43-docker-archive.tar', inspect),
    });
    const found = await find('fx:one', { env });
    expect(found).toMatchObject({ engine: 'podman', imageId: DOCKER20.config, diffIds: DOCKER20.diffIds });
    expect(found.root).toBeUndefined();
    const source = await found.open(opening);
    if (source.kind !== 'stream') throw new Error('save is a stream');
    expect(await readAll(source)).toHaveLength(3);
    expect(source.tree()?.kind).toBe('composed');
    expect(readFileSync(path('asked'), 'utf8').trim()).toBe(DOCKER20.config);
  });

  it.each([
    ['docker20-overlay2', 'docker20-overlay2', 'composed'],
    ['docker28-overlay2', 'docker28-overlay2', 'composed'],
    ['docker28-containerd-absent-platform', 'docker28-containerd-absent-platform', 'manifests'],
    ['docker28-containerd-multi', 'docker28-containerd-absent-platform', 'manifests'],
  ])('reads the save of %s', async (archive, inspect, kind) => {
    const env = pathWith(`save-${archive}`, {
      docker: engineOf(`${archive}.tar`, fixturePath(`${inspect}.inspect.json`)),
    });
    const found = await find('fx', { env, engine: 'docker' });
    expect(found.imageId).toBe(inspectOf(inspect).Id);
    expect(found.root).toBe(kind === 'manifests' ? found.imageId : undefined);
    const source = await found.open(opening);
    if (source.kind !== 'stream') throw new Error('save is a stream');
    const blobs = await readAll(source);
    expect(blobs.every(({ digest, hash }) => digest === undefined || digest === hash)).toBe(true);
    expect(source.tree()?.kind).toBe(kind);
  });

  it('lowers the repository that the engine is asked for, never the tag', async () => {
    const env = pathWith('lower', {
      docker: `[ "$1" = image ] && echo "$3" > '${path('name')}'; exit 1`,
      podman: 'exit 1',
    });
    await failure(find('ghcr.io/MyOrg/App:V1', { env }));
    expect(readFileSync(path('name'), 'utf8').trim()).toBe('ghcr.io/myorg/app:V1');
  });

  it('says what was tried when no engine has the image', async () => {
    const down = missing('Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?');
    const env = pathWith('down', { docker: down });
    const error = await failure(find('fx:one', { env }));
    expect(error.message).toBe(
      'no image "fx:one" was found: docker: Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?; podman is not installed',
    );
    expect(error.remedy).toMatch(/^Docker did not answer: start it/);
    const none = await failure(find('fx:one', { env: pathWith('none', {}) }));
    expect(none.message).toBe('no image "fx:one" was found: docker is not installed; podman is not installed');
    expect(none.remedy).toContain('start it, or push from a file');
    const absent = pathWith('absent', { docker: missing('Error response from daemon: No such image: fx:one') });
    const only = await failure(find('fx:one', { env: absent, engine: 'docker' }));
    expect(only).toMatchObject({
      message: 'no image "fx:one" was found: docker: No such image: fx:one',
      remedy: expect.stringContaining('build or pull it first'),
    });
  });

  it.each(['', '-x', '--help', 'a b', 'a\nb'])('does not hand %j to an engine', async (image) => {
    expect((await failure(find(image))).message).toContain('is not the name or ID of an image');
  });

  it('reports a save that fails with the words of the engine', async () => {
    const inspect = fixturePath('docker28-overlay2.inspect.json');
    const half = `case "$1" in image) cat '${inspect}';; *) head -c 5000 '${fixturePath('docker28-overlay2.tar')}'; echo 'Error response from daemon: no space left on device' >&2; exit 1;; esac`;
    const env = pathWith('half', { docker: half });
    symlinkSync('/usr/bin/head', join(env.PATH, 'head'));
    const source = await (await find('fx', { env })).open(opening);
    if (source.kind !== 'stream') throw new Error('save is a stream');
    const error = await failure(readAll(source));
    expect(error).toMatchObject({
      step: 'Export',
      message: 'docker save failed with exit code 1: no space left on device',
    });
  });

  it('uses the store that is offered, as export says', async () => {
    const env = pathWith('store', {
      docker: engineOf('docker28-overlay2.tar', fixturePath('docker28-overlay2.inspect.json')),
    });
    const store = {
      kind: 'store',
      description: 'a store',
      tree: { kind: 'composed', config: Buffer.alloc(0), diffIds: [] },
    } as unknown as StoreSource;
    const open = async (
      way: 'auto' | 'save' | 'store',
      opened: () => Promise<StoreSource | undefined>,
      withoutStore = false,
    ) => {
      const found = await find('fx', { env, export: way, storeOpener: opened });
      const source = await found.open({ ...opening, withoutStore });
      await source.close();
      return source.kind;
    };
    const broken = () => Promise.reject(new Error('permission denied'));
    expect(await open('auto', async () => store)).toBe('store');
    expect(await open('auto', async () => store, true)).toBe('stream');
    expect(await open('save', async () => store)).toBe('stream');
    expect(await open('auto', async () => undefined)).toBe('stream');
    expect(await open('auto', broken)).toBe('stream');
    expect(await open('store', async () => store)).toBe('store');
    await expect(open('store', broken)).rejects.toThrow('permission denied');
    expect((await failure(open('store', async () => undefined))).message).toContain(
      "the store of docker can't be read",
    );
  });

  it('reports the documents of an image out of the store, which is opened once and stays open until the end', async () => {
    const named = 'docker28-containerd-absent-platform';
    const containerd = {
      env: pathWith('glimpse', { docker: engineOf(`${named}.tar`, fixturePath(`${named}.inspect.json`)) }),
    };
    const overlay2 = 'docker28-overlay2';
    const classic = {
      env: pathWith('classic', { docker: engineOf(`${overlay2}.tar`, fixturePath(`${overlay2}.inspect.json`)) }),
    };
    const stores: { store: StoreSource; closed: number }[] = [];
    const config = Buffer.from('{}');
    const configRow = { mediaType: MediaType.ociConfig, digest: digestOf(config), size: config.length };
    const manifest = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: MediaType.ociManifest, config: configRow, layers: [] }),
    );
    const root = { mediaType: MediaType.ociManifest, digest: digestOf(manifest), size: manifest.length };
    const complete = new Map([
      [root.digest, manifest],
      [configRow.digest, config],
    ]);
    const openerOf =
      (tree: ImageTree) =>
      async (_: unknown, { notice }: Pick<OpenOptions, 'notice'>) => {
        notice('a helper reads it');
        const entry = {
          store: { kind: 'store', description: 'the store', tree, close: async () => void entry.closed++ },
          closed: 0,
        } as unknown as { store: StoreSource; closed: number };
        stores.push(entry);
        return entry.store;
      };
    const opener = (absent: readonly Descriptor[], documents = complete) =>
      openerOf({ kind: 'manifests', root, documents, absent });
    const told: string[] = [];
    const notice = (text: string) => void told.push(text);

    const found = await find('fx', { ...containerd, storeOpener: opener([]), notice });
    expect(stores).toHaveLength(1);
    expect(await found.documents?.(never)).toBe(stores[0]?.store.tree);
    expect(await found.documents?.(never)).toBe(stores[0]?.store.tree);
    expect(told).toEqual(['a helper reads it']);
    for (let round = 0; round < 2; round += 1) {
      const source = await found.open({ ...opening, notice });
      expect(source.kind === 'store' && source.tree).toBe(stores[0]?.store.tree);
      await source.close();
    }
    expect(told).toContain('Layers are read straight from the store; turn this off with `export: save`');
    expect(stores.map(({ closed }) => closed)).toEqual([0]);
    await found.close?.();
    expect(stores.map(({ closed }) => closed)).toEqual([1]);

    const composed: ImageTree = { kind: 'composed', config, diffIds: [] };
    const fromOverlay2 = await find('fx', { ...classic, storeOpener: openerOf(composed) });
    expect(await fromOverlay2.documents?.(never)).toBe(composed);
    const partial = await find('fx', { ...containerd, storeOpener: opener([root]) });
    expect(await partial.documents?.(never)).toBeUndefined();
    const without = await find('fx', { ...containerd, storeOpener: opener([], new Map([[root.digest, manifest]])) });
    expect(await without.documents?.(never)).toBeUndefined();
    const denied = await find('fx', {
      ...containerd,
      storeOpener: () => Promise.reject(new Error('permission denied')),
    });
    expect(await denied.documents?.(never)).toBeUndefined();
    await denied.close?.();
    const saved = await find('fx', { ...containerd, export: 'save', storeOpener: opener([]) });
    expect(saved.documents).toBeUndefined();
    expect((await find('fx', containerd)).documents).toBeUndefined();
    expect(stores).toHaveLength(4);
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
