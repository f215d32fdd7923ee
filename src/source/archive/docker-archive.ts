/**
 * The docker-archive format: `manifest.json`, a config and layers, as docker, podman, skopeo, kaniko, Bazel and ko
 * write it.
 */

import { createHash } from 'node:crypto';
import type { BlobFormat } from '../../blob/blob.ts';
import { asImageError, ImageError } from '../../common/error.ts';
import { readDiffIds } from '../../oci/documents.ts';
import type { ImageTree } from '../../oci/image-tree.ts';
import { composeManifest } from '../../oci/rewrite.ts';
import { type Descriptor, type Digest, digestOf, isForeignLayer, MediaType } from '../../oci/types.ts';
import { candidatesOfList, chooseOne, type ListedImage, readArchiveList } from '../choose.ts';
import { decompress, isCompressed } from '../compression.ts';
import {
  type BlobPlace,
  FileStore,
  type Files,
  fileDigest,
  fileFormat,
  type OpenFile,
  readDocumentFile,
} from '../files.ts';
import type { StoreSource } from '../source.ts';

/** A layer of the archive: its descriptor in a manifest, and where its bytes are. */
interface ArchivedLayer extends BlobPlace {
  readonly descriptor: Descriptor;
}

/**
 * Opens the image that `ref` means; undefined when the files have no `manifest.json`. Uncompressed layers make a
 * composed image; where some are compressed already (Bazel, ko), a manifest is made that keeps them. Throws ImageError.
 */
export async function openDockerArchive(
  files: Files,
  ref: string | undefined,
  signal: AbortSignal,
): Promise<StoreSource | undefined> {
  const list = await readDocumentFile(files, 'manifest.json');
  if (!list) return undefined;
  const image = chooseOne(candidatesOfList(readArchiveList(list)), ref, files.description);
  const config = await readArchivedConfig(files, image);
  const diffIds = readDiffIds(config, `the config ${image.config} in ${files.description}`);
  if (diffIds.length !== image.layers.length) {
    throw new ImageError(
      'Archive',
      `${files.description} names ${image.layers.length} layers, and the image's config ${diffIds.length}`,
    );
  }
  const layers = await new LayerReader(files, image, signal).read(diffIds);
  const places = new Map(layers.map((layer) => [layer.descriptor.digest, layer]));
  return new FileStore(files, treeOf(config, diffIds, layers), places);
}

async function readArchivedConfig(files: Files, image: ListedImage): Promise<Buffer> {
  const promised = /[0-9a-f]{64}/.exec(image.config)?.[0];
  const expected = promised === undefined ? undefined : { digest: `sha256:${promised}` as const };
  const bytes = await readDocumentFile(files, image.config, expected);
  if (bytes) return bytes;
  throw new ImageError('Archive', `${files.description} lacks the config ${image.config} that its manifest.json names`);
}

/** Layers read at once: unpacking one takes one core. */
const READERS = 2;

const COMPRESSED_TYPES: Readonly<Partial<Record<BlobFormat, string>>> = {
  gzip: MediaType.ociLayerGzip,
  zstd: MediaType.ociLayerZstd,
};

/**
 * Finds out what each layer is. Nothing in the archive promises the digest of a compressed layer, so it is unpacked
 * against its diffID here, before a byte of it is sent: `docker load` ("invalid diffID") and skopeo refuse layers that
 * are cut, damaged or swapped. So is what a link outside of the folder leads to. An uncompressed layer is verified
 * while it is compressed for the push.
 */
class LayerReader {
  readonly #files: Files;
  readonly #image: ListedImage;
  /** Ends one reader when the other has found something wrong. */
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;

  constructor(files: Files, image: ListedImage, signal: AbortSignal) {
    this.#files = files;
    this.#image = image;
    this.#signal = AbortSignal.any([signal, this.#stop.signal]);
  }

  async read(diffIds: readonly Digest[]): Promise<ArchivedLayer[]> {
    const layers: ArchivedLayer[] = [];
    const known = new Map<string, Promise<ArchivedLayer>>();
    const positions = diffIds.keys();
    const readNext = async (): Promise<void> => {
      for (const position of positions) {
        const [path, diffId] = [this.#image.layers[position]!, diffIds[position]!];
        const layer = known.get(`${diffId} ${path}`) ?? this.#layer(path, diffId);
        known.set(`${diffId} ${path}`, layer);
        layers[position] = await layer;
      }
    };
    // The caller closes the files after an error: no reader may be left that reads from them.
    await Promise.allSettled(Array.from({ length: READERS }, () => readNext().catch((e) => this.#stop.abort(e))));
    this.#signal.throwIfAborted();
    return layers;
  }

  async #layer(path: string, diffId: Digest): Promise<ArchivedLayer> {
    this.#signal.throwIfAborted();
    const file = await this.#files.open(path);
    const source = this.#image.layerSources.get(diffId);
    if (!file && source && isForeignLayer(source)) return { descriptor: source, path };
    if (!file) {
      throw new ImageError(
        'Archive',
        `${this.#files.description} lacks the layer ${path} that its manifest.json names`,
      );
    }
    const format = await fileFormat(file);
    const uncompressed = { mediaType: MediaType.ociLayer, digest: diffId };
    if (isCompressed(format)) {
      const { digest, unpackedSize } = await this.#unpack(file, format, path, diffId);
      const mediaType = COMPRESSED_TYPES[format];
      if (mediaType) return { descriptor: { mediaType, digest, size: file.size }, path };
      // Registries know no media type for layers in xz or bzip2: the push compresses what is in them.
      const compression = format as 'xz' | 'bzip2';
      return { descriptor: { ...uncompressed, size: unpackedSize }, path, compression };
    }
    if (format === 'tar' && !file.isOutside) return { descriptor: { ...uncompressed, size: file.size }, path };
    // Tar files older than their magic, and empty ones, are known by the diffID alone.
    const digest = await fileDigest(file);
    if (digest !== diffId) throw this.#otherBytes(path, format, digest, diffId);
    return { descriptor: { ...uncompressed, size: file.size }, path };
  }

  /** The digest of a compressed layer's own bytes, once those that it decompresses to were seen to have the diffID. */
  async #unpack(
    file: OpenFile,
    format: 'gzip' | 'zstd' | 'xz' | 'bzip2',
    path: string,
    diffId: Digest,
  ): Promise<{ digest: Digest; unpackedSize: number }> {
    const unpacked = createHash('sha256');
    let unpackedSize = 0;
    try {
      for await (const chunk of decompress(file.read(), format)) {
        this.#signal.throwIfAborted();
        unpacked.update(chunk);
        unpackedSize += chunk.length;
      }
    } catch (error) {
      this.#signal.throwIfAborted();
      const what = `the layer ${path} in ${this.#files.description} can't be decompressed (${format})`;
      throw asImageError(error, 'Archive', what, DAMAGED);
    }
    const found: Digest = `sha256:${unpacked.digest('hex')}`;
    if (found !== diffId) throw this.#otherBytes(path, format, found, diffId);
    return { digest: await fileDigest(file), unpackedSize };
  }

  #otherBytes(path: string, format: BlobFormat, found: Digest, diffId: Digest): ImageError {
    const what = `the layer ${path} in ${this.#files.description}`;
    if (format === 'other') {
      return new ImageError('Archive', `${what} is neither a tar file nor one compressed with gzip, zstd, xz or bzip2`);
    }
    const verb = format === 'tar' ? 'has' : `(${format}) unpacks to`;
    return new ImageError('Archive', `${what} ${verb} the diffID ${found}, but the image's config names ${diffId}`, {
      remedy: DAMAGED,
    });
  }
}

const DAMAGED = 'the archive is damaged: build, save or download it again';

function treeOf(config: Buffer, diffIds: readonly Digest[], layers: readonly ArchivedLayer[]): ImageTree {
  const descriptors = layers.map(({ descriptor }) => descriptor);
  if (descriptors.every(({ mediaType }) => mediaType === MediaType.ociLayer))
    return { kind: 'composed', config, diffIds };
  const configDigest = digestOf(config);
  const manifest = composeManifest(
    { mediaType: MediaType.ociConfig, digest: configDigest, size: config.length },
    descriptors,
  );
  const root = { mediaType: MediaType.ociManifest, digest: digestOf(manifest), size: manifest.length };
  const documents = new Map<Digest, Buffer>([
    [root.digest, manifest],
    [configDigest, config],
  ]);
  return { kind: 'manifests', root, documents, absent: [] };
}
