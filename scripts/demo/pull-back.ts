/** Pulls an image back with nothing but GET requests and checks every byte of it. */
import { createHash, type Hash } from 'node:crypto';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { type Digest, digestOf, type ImageConfig, type Manifest, MediaType } from '../../src/oci/types.ts';

export interface CheckedLayer {
  readonly digest: Digest;
  readonly size: number;
  readonly diffId: Digest;
}

/**
 * Pulls `<url>/v2/<repository>/manifests/<digest>` with its config and its gzip layers. Throws an Error at the first thing that
 * is not what its digest, its size or the config's diffID promises.
 */
export const pullBack = async (url: string, repository: string, digest: Digest): Promise<readonly CheckedLayer[]> => {
  const get = async (path: string): Promise<Response> => {
    const accept = `${MediaType.ociManifest}, ${MediaType.dockerManifest}, ${MediaType.ociIndex}`;
    const response = await fetch(`${url}/v2/${repository}/${path}`, { headers: { accept } });
    if (!response.ok) throw new Error(`GET ${path}: ${response.status} ${await response.text()}`);
    return response;
  };
  const document = async <T>(path: string, promised: Digest): Promise<T> => {
    const bytes = Buffer.from(await (await get(path)).arrayBuffer());
    same(`the digest of ${path}`, digestOf(bytes), promised);
    return JSON.parse(bytes.toString()) as T;
  };
  const manifest = await manifestOf(document, digest);
  const config = await document<ImageConfig>(`blobs/${manifest.config.digest}`, manifest.config.digest);
  const layers: CheckedLayer[] = [];
  for (const [position, { digest, size }] of manifest.layers.entries()) {
    const layer = await hashLayer((await get(`blobs/${digest}`)).body!);
    same('the digest of a layer', layer.digest, digest);
    same('the size of a layer', layer.size, size);
    same('the diffID of a layer', layer.diffId, config.rootfs.diff_ids[position]);
    layers.push(layer);
  }
  same('the number of layers', layers.length, config.rootfs.diff_ids.length);
  return layers;
};

/** An engine with the containerd image store may push an index: its first manifest is the image, the others attest it. */
const manifestOf = async (
  document: <T>(path: string, digest: Digest) => Promise<T>,
  digest: Digest,
): Promise<Manifest> => {
  const root = await document<Manifest & { manifests?: readonly { digest: Digest }[] }>(`manifests/${digest}`, digest);
  const child = root.manifests?.[0]?.digest;
  return child === undefined ? root : document(`manifests/${child}`, child);
};

const hashLayer = async (body: ReadableStream): Promise<CheckedLayer> => {
  const [compressed, plain] = [createHash('sha256'), createHash('sha256')];
  let size = 0;
  const counted = async function* (source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of source) {
      compressed.update(chunk);
      size += chunk.length;
      yield chunk;
    }
  };
  await pipeline(Readable.fromWeb(body as Parameters<typeof Readable.fromWeb>[0]), counted, createGunzip(), plain);
  return { digest: digestBy(compressed), size, diffId: digestBy(plain) };
};

const digestBy = (hash: Hash): Digest => `sha256:${hash.digest('hex')}`;

const same = (what: string, found: unknown, promised: unknown): void => {
  if (found !== promised) throw new Error(`${what} is ${found}, not ${promised} as promised`);
};
