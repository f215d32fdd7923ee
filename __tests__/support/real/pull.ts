/** What a registry holds, told by a client that is not ours: skopeo. */
import { createHash } from 'node:crypto';
import { createReadStream, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { type Descriptor, type Digest, digestOf, type ImageConfig, type Manifest } from '../../../src/oci/types.ts';
import { commandOf } from './parts.ts';
import { privateFolder, removeFolder, run } from './processes.ts';

export interface Pulled {
  /** Of what the reference names, which may be an index: the digest that a deployment pins. */
  readonly digest: Digest;
  readonly root: Buffer;
  /** The image's own manifest, for this machine's platform where the root is an index. */
  readonly manifestDigest: Digest;
  readonly manifest: Manifest;
  readonly config: Buffer;
  readonly configDigest: Digest;
  /** The digests of the layers' uncompressed bytes, computed here, from the base up. */
  readonly diffIds: readonly Digest[];
  /** Uncompressed bytes of all layers together. */
  readonly size: number;
}

export interface PullOptions {
  readonly username?: string;
  readonly password?: string;
}

/**
 * Pulls `host/repository:tag` (or `@digest`) whole by plain HTTP with skopeo, which checks every blob against its digest, and
 * takes it apart. Throws an Error when skopeo refuses it, or when a layer's bytes are not the diffID that the config promises.
 */
export const pullBack = async (reference: string, options: PullOptions = {}): Promise<Pulled> => {
  const folder = privateFolder('pull');
  try {
    const skopeo = commandOf('skopeo', 'skopeo');
    // An empty HOME: no credentials of the user's own.
    const env = { PATH: process.env.PATH, HOME: folder, XDG_RUNTIME_DIR: folder };
    const credentials = options.username === undefined ? [] : [`${options.username}:${options.password}`];
    const root = Buffer.from(
      await run(
        skopeo,
        [
          'inspect',
          '--raw',
          '--tls-verify=false',
          ...credentials.flatMap((text) => ['--creds', text]),
          `docker://${reference}`,
        ],
        { env },
      ),
    );
    const copy = [
      '--insecure-policy',
      'copy',
      '--src-tls-verify=false',
      ...credentials.flatMap((text) => ['--src-creds', text]),
    ];
    await run(skopeo, [...copy, `docker://${reference}`, `dir:${folder}/image`], { env, timeout: 600_000 });
    return { digest: digestOf(root), root, ...(await takeApart(join(folder, 'image'))) };
  } finally {
    removeFolder(folder);
  }
};

const takeApart = async (folder: string): Promise<Omit<Pulled, 'digest' | 'root'>> => {
  const bytes = readFileSync(join(folder, 'manifest.json'));
  const manifest = JSON.parse(bytes.toString()) as Manifest;
  const config = readFileSync(blobIn(folder, manifest.config));
  const layers: UncompressedLayer[] = [];
  for (const layer of manifest.layers) layers.push(await uncompressed(blobIn(folder, layer)));
  const diffIds = layers.map((layer) => layer.diffId);
  const promised = (JSON.parse(config.toString()) as ImageConfig).rootfs.diff_ids;
  if (diffIds.join() !== promised.join()) {
    throw new Error(
      `the layers are not those of the config: it promises ${promised.join(', ')}, they are ${diffIds.join(', ')}`,
    );
  }
  const size = layers.reduce((sum, layer) => sum + layer.size, 0);
  return { manifestDigest: digestOf(bytes), manifest, config, configDigest: digestOf(config), diffIds, size };
};

const blobIn = (folder: string, descriptor: Descriptor): string =>
  join(folder, descriptor.digest.slice('sha256:'.length));

interface UncompressedLayer {
  readonly diffId: Digest;
  readonly size: number;
}

const uncompressed = async (file: string): Promise<UncompressedLayer> => {
  const hash = createHash('sha256');
  let size = 0;
  const count = async (source: AsyncIterable<Buffer>) => {
    for await (const chunk of source) {
      hash.update(chunk);
      size += chunk.length;
    }
  };
  const decoder = await decoderOf(file);
  if (decoder === undefined) await pipeline(createReadStream(file), count);
  else await pipeline(createReadStream(file), decoder, count);
  return { diffId: `sha256:${hash.digest('hex')}`, size };
};

const decoderOf = async (file: string) => {
  const handle = await open(file);
  const { buffer } = await handle.read(Buffer.alloc(4), 0, 4, 0).finally(() => handle.close());
  const magic = buffer.toString('hex');
  if (magic.startsWith('1f8b')) return createGunzip();
  return magic === '28b52ffd' ? createZstdDecompress() : undefined;
};
