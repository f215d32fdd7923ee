/** What we compress is read by the programs that will have to: tools, engines, and clients that are not ours. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pack } from 'tar-stream';
import { expect, it } from 'vitest';
import { type Compression, layerMediaType } from '../../src/blob/compress/compression.ts';
import { compressLayer } from '../../src/blob/streaming.ts';
import { type Digest, digestOf, type Manifest, MediaType } from '../../src/oci/types.ts';
import { docker, imageIdOf } from '../support/real/docker.ts';
import { commandOf } from '../support/real/parts.ts';
import { startPodman } from '../support/real/podman.ts';
import { run } from '../support/real/processes.ts';
import { describeWith, sharedDocker } from '../support/real/suite.ts';
import { bytesOf, contentsOf, MIB, never, newFolder, newPool, newSpool, pipeThrough, streamOf } from './layers.ts';

/** A layer of several blocks in either compression, the last one short; one block does not shrink and is stored. */
const layerTar = async (): Promise<Buffer> => {
  const tar = pack();
  tar.entry({ name: 'usr/text' }, bytesOf('text', 3 * MIB));
  tar.entry({ name: 'usr/weights' }, bytesOf('random', 5 * MIB));
  tar.entry({ name: 'usr/mixed' }, bytesOf('mixed', 3 * MIB + 1));
  tar.finalize();
  return buffer(tar);
};

const compressed = async (plain: Buffer, compression: Compression): Promise<Buffer> =>
  contentsOf(
    compressLayer(streamOf(plain), { pool: newPool({ compression }), spool: await newSpool(), signal: never }),
  );

describeWith(['python3', 'zstd'], 'programs of the system', () => {
  it('gzip, tar and Python read the gzip members as one stream', async () => {
    const plain = await layerTar();
    const layer = await compressed(plain, 'gzip');
    pipeThrough(layer, 'gzip', '-t');
    expect(pipeThrough(layer, 'gzip', '-dc').equals(plain)).toBe(true);
    expect(pipeThrough(layer, 'tar', '-tzf', '-').toString().split('\n')).toContain('usr/weights');
    const python = 'import gzip,sys; sys.stdout.buffer.write(gzip.decompress(sys.stdin.buffer.read()))';
    expect(pipeThrough(layer, commandOf('python3', 'python3'), '-c', python).equals(plain)).toBe(true);
  });

  it('zstd reads the frames as one stream', async () => {
    const plain = await layerTar();
    const layer = await compressed(plain, 'zstd');
    pipeThrough(layer, commandOf('zstd', 'zstd'), '-tq');
    expect(pipeThrough(layer, commandOf('zstd', 'zstd'), '-dcq').equals(plain)).toBe(true);
  });
});

interface Image {
  readonly layer: Buffer;
  readonly config: Buffer;
  readonly diffId: Digest;
}

const imageOf = async (compression: Compression): Promise<Image> => {
  const plain = await layerTar();
  const diffId = digestOf(plain);
  const config = { architecture: 'amd64', os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: [diffId] } };
  return { layer: await compressed(plain, compression), config: Buffer.from(JSON.stringify(config)), diffId };
};

/** As `docker save` of old engines writes it, but for the layer, which is compressed. */
const dockerArchive = async ({ layer, config }: Image, name: string): Promise<string> => {
  const tar = pack();
  const configName = `${digestOf(config).slice('sha256:'.length)}.json`;
  tar.entry({ name: configName }, config);
  tar.entry({ name: 'layer.tar' }, layer);
  tar.entry(
    { name: 'manifest.json' },
    JSON.stringify([{ Config: configName, RepoTags: [name], Layers: ['layer.tar'] }]),
  );
  tar.finalize();
  const path = join(newFolder(), 'image.tar');
  writeFileSync(path, await buffer(tar));
  return path;
};

const ociLayout = ({ layer, config }: Image, compression: Compression): string => {
  const dir = newFolder();
  mkdirSync(join(dir, 'blobs/sha256'), { recursive: true });
  const put = (mediaType: string, bytes: Buffer) => {
    writeFileSync(join(dir, 'blobs', digestOf(bytes).replace(':', '/')), bytes);
    return { mediaType, digest: digestOf(bytes), size: bytes.length };
  };
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: MediaType.ociManifest,
    config: put(MediaType.ociConfig, config),
    layers: [put(layerMediaType(compression), layer)],
  };
  const root = put(MediaType.ociManifest, Buffer.from(JSON.stringify(manifest)));
  writeFileSync(join(dir, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [root] }));
  writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  return dir;
};

/** The layer as skopeo unpacks it: checked against the config's diffID, in a file that is named by it. */
const skopeoUnpacks = async (layout: string, diffId: Digest): Promise<Digest> => {
  const dir = newFolder();
  const args = ['--insecure-policy', 'copy', '--quiet', '--dest-decompress', `oci:${layout}`, `dir:${dir}`];
  await run(commandOf('skopeo', 'skopeo'), args);
  return digestOf(readFileSync(join(dir, diffId.slice('sha256:'.length))));
};

for (const compression of ['gzip', 'zstd'] as const) {
  describeWith(['skopeo'], `skopeo and a layer in ${compression}`, () => {
    it('unpacks it out of a layout', async () => {
      const image = await imageOf(compression);
      expect(await skopeoUnpacks(ociLayout(image, compression), image.diffId)).toBe(image.diffId);
    });
  });

  describeWith(['podman'], `podman and a layer in ${compression}`, () => {
    it('loads it', async () => {
      const image = await imageOf(compression);
      const podman = await startPodman();
      try {
        await podman.run('load', '--input', await dockerArchive(image, 'compressed.test/layer:1'));
        const inspected = await podman.run(
          'image',
          'inspect',
          '--format',
          '{{json .RootFS.Layers}}',
          'compressed.test/layer:1',
        );
        expect(JSON.parse(inspected)).toEqual([image.diffId]);
      } finally {
        await podman.stop();
      }
    });
  });
}

/** Docker 20.10 (Debian 12) cannot read zstd: its load says "invalid tar header". */
const ENGINES = [
  ['docker', { version: 'debian', store: 'overlay2' }, ['gzip']],
  ['docker-trixie', { version: 'trixie', store: 'overlay2' }, ['gzip', 'zstd']],
  ['docker-trixie', { version: 'trixie', store: 'containerd' }, ['gzip', 'zstd']],
] as const;

for (const [part, options, compressions] of ENGINES) {
  describeWith([part], `the ${options.version} engine with ${options.store}`, () => {
    it.for<Compression>(compressions)('loads a layer in %s', async (compression) => {
      const engine = await sharedDocker(options);
      const name = `compressed.test/${options.version}-${options.store}:${compression}`;
      const image = await imageOf(compression);
      await docker(engine, 'load', '--quiet', '--input', await dockerArchive(image, name));
      const inspected = await docker(engine, 'image', 'inspect', '--format', '{{json .RootFS.Layers}}', name);
      expect(JSON.parse(inspected)).toEqual([image.diffId]);
      if (options.store === 'overlay2') expect(await imageIdOf(engine, name)).toBe(digestOf(image.config));
      await docker(engine, 'image', 'rm', '--force', name);
    });
  });
}
