/** How engines keep an image in their own files: Docker's classic store, Podman's, and containerd's content store. */

import type { StoredBlob } from '../../blob/blob.ts';
import {
  MAX_MANIFESTS,
  readDocument as parseDocument,
  parseJson,
  readDiffIds,
  verifyDocument,
} from '../../oci/documents.ts';
import { buildTree, type ManifestTree, withoutManifests } from '../../oci/image-tree.ts';
import { chainIdsOf, type Descriptor, type Digest, hexOf, isDigest, type Manifest } from '../../oci/types.ts';
import { blobFormat, HEAD_BYTES } from '../compression.ts';
import type { StoreSource } from '../source.ts';
import { findDocument, orMissing, type StoreFiles } from './files/files.ts';
import { StoreError } from './files/folder.ts';

// The classic stores: a config, and layers that lie unpacked in folders and are put together again from tar-split.

/** A layer of the store. Nothing of it is looked at before it is asked for. */
interface UnpackedLayer {
  readonly diffId: Digest;
  /** Finds its files. Throws StoreError when its record can't be read. */
  locate(): Promise<LayerPlace>;
}

/** Where a layer lies. */
interface LayerPlace {
  /** The tar-split file, in gzip. */
  readonly tarSplit: string;
  /** The folder that the layer's tar was unpacked to. */
  readonly folder: string;
  /** The length of the tar in bytes, where the store keeps it. */
  readonly size?: number;
}

/**
 * The diffIDs that a config names, in order, after the config was seen to be the one with this digest. Throws
 * ImageError.
 */
function diffIdsOf(config: Buffer, digest: Digest): readonly Digest[] {
  const what = `the config ${digest}`;
  verifyDocument(config, { digest }, what);
  return readDiffIds(config, what);
}

/**
 * The source that these layers (from the base up) and config make. Opening a layer throws StoreError when it has no
 * record.
 */
function composedStore(
  files: StoreFiles,
  description: string,
  config: Buffer,
  layers: readonly UnpackedLayer[],
): StoreSource {
  const byDiffId = new Map(layers.map((layer) => [layer.diffId, layer]));
  return {
    kind: 'store',
    description,
    tree: { kind: 'composed', config, diffIds: layers.map(({ diffId }) => diffId) },
    open: async (digest) => {
      const layer = byDiffId.get(digest);
      return layer && unpacked(files, await recorded(files, layer));
    },
    close: () => files.close(),
  };
}

async function recorded(files: StoreFiles, { diffId, locate }: UnpackedLayer): Promise<LayerPlace> {
  const place = await locate();
  if ((await orMissing(files.size(place.tarSplit))) !== undefined) return place;
  throw new StoreError(`the layer ${diffId} has no record of its tar at ${place.tarSplit}`);
}

/**
 * A layer that is put together as it is read: always from its first byte to its last, for only tar-split has its order.
 */
function unpacked(files: StoreFiles, { size, tarSplit, folder }: LayerPlace): StoredBlob {
  return {
    ...(size === undefined ? {} : { size }),
    format: 'tar',
    seekable: false,
    read: (start, end) => {
      if (start || end !== undefined) throw new RangeError('a layer that is put together has no ranges');
      return files.layer(tarSplit, folder);
    },
  };
}

// Docker's classic store with the overlay2 driver: configs in imagedb, a record of each layer in layerdb under its
// chainID, its files in overlay2/<cache-id>/diff. https://docs.docker.com/engine/storage/drivers/overlayfs-driver/

/**
 * Opens an image by its ID below Docker's root folder. Throws StoreError, ImageError for a config that can't be used.
 */
export async function openOverlay2(files: StoreFiles, root: string, imageId: Digest): Promise<StoreSource> {
  const config = await files.bytes(`${root}/image/overlay2/imagedb/content/sha256/${hexOf(imageId)}`);
  const diffIds = diffIdsOf(config, imageId);
  const chainIds = chainIdsOf(diffIds);
  const layers = diffIds.map((diffId, position) => ({
    diffId,
    locate: () => placeOf(files, root, diffId, chainIds[position]!),
  }));
  return composedStore(files, `the overlay2 store of Docker (${root})`, config, layers);
}

async function placeOf(files: StoreFiles, root: string, diffId: Digest, chainId: Digest): Promise<LayerPlace> {
  const record = `${root}/image/overlay2/layerdb/sha256/${hexOf(chainId)}`;
  const [diff, cacheId] = await Promise.all(
    ['diff', 'cache-id'].map(async (name) => (await files.bytes(`${record}/${name}`)).toString('utf8').trim()),
  );
  if (diff !== diffId) throw new StoreError(`${record} is of the layer ${diff}, not of ${diffId}`, { path: record });
  if (!/^[0-9a-z]+$/.test(cacheId!)) throw new StoreError(`${record}/cache-id names no folder`, { path: record });
  return { tarSplit: `${record}/tar-split.json.gz`, folder: `${root}/overlay2/${cacheId}/diff` };
}

// Podman's store (containers/storage with the overlay driver): lists of images and layers in JSON, configs as "big
// data" beside the image's record, layers in overlay/<id>/diff. https://github.com/containers/storage/tree/main/docs

/** A record of overlay-images/images.json, the part that a push needs. */
interface ImageRecord {
  readonly id: string;
  /** The topmost layer's ID. */
  readonly layer?: string;
}

/** A record of overlay-layers/layers.json, the part that a push needs. */
interface LayerRecord {
  readonly id: string;
  readonly parent?: string;
  readonly 'diff-digest'?: string;
  /** The length of the layer's tar, bytes. */
  readonly 'diff-size'?: number;
}

/**
 * Opens an image by its ID below Podman's graph root. Throws StoreError, ImageError for a config that can't be used.
 */
export async function openPodmanStore(files: StoreFiles, root: string, imageId: Digest): Promise<StoreSource> {
  const id = hexOf(imageId);
  const images = records<ImageRecord>(await files.bytes(`${root}/overlay-images/images.json`), 'images.json');
  const image = images.find((record) => record.id === id);
  if (!image) throw new StoreError(`the image ${id} is not in ${root}`, { path: root, code: 'ENOENT' });
  // makeBigDataBaseName of containers/storage: a key with a colon is kept in base64, with = before it.
  const config = await files.bytes(`${root}/overlay-images/${id}/=${Buffer.from(imageId).toString('base64')}`);
  const chain = chainBelow(image.layer, await layerRecords(files, root));
  return composedStore(
    files,
    `the storage of Podman (${root})`,
    config,
    unpackedLayers(root, diffIdsOf(config, imageId), chain),
  );
}

/** All layers by ID. Those of a store that is emptied at each boot are in a file of their own. */
async function layerRecords(files: StoreFiles, root: string): Promise<ReadonlyMap<string, LayerRecord>> {
  const layers = new Map<string, LayerRecord>();
  for (const name of ['layers.json', 'volatile-layers.json']) {
    const bytes = await findDocument(files, `${root}/overlay-layers/${name}`);
    for (const record of bytes ? records<LayerRecord>(bytes, name) : []) layers.set(record.id, record);
  }
  return layers;
}

/** The layers from the base up to the topmost. */
function chainBelow(topmost: string | undefined, layers: ReadonlyMap<string, LayerRecord>): LayerRecord[] {
  const chain: LayerRecord[] = [];
  for (let id = topmost; id; id = chain[0]!.parent) {
    const record = layers.get(id);
    if (!record || chain.includes(record)) throw new StoreError(`the layer ${id} is not in Podman's list of layers`);
    chain.unshift(record);
  }
  return chain;
}

/**
 * Pairs the config's diffIDs with the layers. One that was found by its blob alone may lack its diffID: reading tells.
 */
function unpackedLayers(root: string, diffIds: readonly Digest[], chain: readonly LayerRecord[]): UnpackedLayer[] {
  if (chain.length !== diffIds.length) {
    throw new StoreError(`the image has ${diffIds.length} layers, Podman's storage ${chain.length} of it`);
  }
  return diffIds.map((diffId, position) => {
    const { id, 'diff-digest': stored, 'diff-size': size } = chain[position]!;
    if (!/^[0-9a-f]{64}$/.test(id))
      throw new StoreError(`a layer of Podman's storage has the ID ${JSON.stringify(id)}`);
    if (isDigest(stored) && stored !== diffId) throw new StoreError(`the layer ${id} is ${stored}, not ${diffId}`);
    const place = {
      tarSplit: `${root}/overlay-layers/${id}.tar-split.gz`,
      folder: `${root}/overlay/${id}/diff`,
    };
    const known = size !== undefined && size >= 0 ? { ...place, size } : place;
    return { diffId, locate: async () => known };
  });
}

function records<T extends { readonly id: string }>(bytes: Buffer, what: string): readonly T[] {
  const list = parseJson(bytes, what);
  if (!Array.isArray(list)) throw new StoreError(`${what} of Podman's storage is no list`);
  return list as T[];
}

// containerd's content store: a file a blob, named by its digest. Where Docker keeps its images there ("containerd
// image store"), manifests, configs and compressed layers lie as a registry has them.
// https://github.com/containerd/containerd/blob/main/docs/content-flow.md

/** Bytes of a blob that is read completely when its head is read. */
const MOST_AT_ONCE = 2 * 2 ** 20;

/**
 * Opens an image by the digest of its manifest or index. `folder` is the one that has `blobs` in it. Throws StoreError
 * when the root is not there (`missing`), unreadable or damaged, ImageError for documents that can't be used.
 */
export async function openContentStore(files: StoreFiles, folder: string, root: Digest): Promise<StoreSource> {
  const store = new ContentStore(files, folder);
  const tree = await store.tree(root);
  return {
    kind: 'store',
    description: `the content store of Docker (${folder})`,
    tree,
    open: (digest) => store.open(digest),
    close: () => files.close(),
  };
}

class ContentStore {
  readonly #files: StoreFiles;
  readonly #folder: string;
  readonly #documents = new Map<Digest, Buffer>();
  readonly #manifests = new Map<Digest, Manifest>();

  constructor(files: StoreFiles, folder: string) {
    this.#files = files;
    this.#folder = folder;
  }

  async tree(root: Digest): Promise<ManifestTree> {
    await this.#collect({ digest: root });
    const found = buildTree(root, this.#documents);
    if (!found) throw new StoreError(`${this.#path(root)} is not there`, { path: this.#path(root), code: 'ENOENT' });
    const unpulled = new Set<Digest>();
    for (const [digest, manifest] of this.#manifests) {
      if (digest !== root && !(await this.#isPulled(manifest))) unpulled.add(digest);
    }
    return unpulled.size === 0 ? found.tree : withoutManifests(found.tree, unpulled);
  }

  async open(digest: Digest): Promise<StoredBlob | undefined> {
    const path = this.#path(digest);
    const size = await orMissing(this.#files.size(path));
    if (size === undefined) return undefined;
    const head = await this.#files.bytes(path, size > MOST_AT_ONCE ? HEAD_BYTES : size);
    const read = (start?: number, end?: number) => this.#files.range(path, start, end);
    return { size, format: blobFormat(head), seekable: true, read, ...(size > MOST_AT_ONCE ? {} : { bytes: head }) };
  }

  /** Reads the documents below a descriptor, each verified by its digest; those that are not there are left out. */
  async #collect(descriptor: Pick<Descriptor, 'digest'> & Partial<Descriptor>): Promise<void> {
    if (this.#documents.has(descriptor.digest)) return;
    if (this.#documents.size > 2 * MAX_MANIFESTS) throw new StoreError(`more than ${MAX_MANIFESTS} manifests`);
    const bytes = await findDocument(this.#files, this.#path(descriptor.digest));
    if (!bytes) return;
    const what = `the manifest ${descriptor.digest}`;
    verifyDocument(bytes, descriptor, what);
    this.#documents.set(descriptor.digest, bytes);
    const document = parseDocument(bytes, what, descriptor.mediaType);
    if (document.kind === 'index') for (const child of document.index.manifests) await this.#collect(child);
    if (document.kind === 'manifest') await this.#collectConfig(descriptor.digest, document.manifest);
  }

  async #collectConfig(digest: Digest, manifest: Manifest): Promise<void> {
    this.#manifests.set(digest, manifest);
    const { config } = manifest;
    const bytes = this.#documents.has(config.digest)
      ? undefined
      : await findDocument(this.#files, this.#path(config.digest));
    if (!bytes) return;
    verifyDocument(bytes, config, `the config ${config.digest}`);
    this.#documents.set(config.digest, bytes);
  }

  /** Whether a platform's content was pulled: an engine may have the manifest of one whose blobs it never asked for. */
  async #isPulled(manifest: Manifest): Promise<boolean> {
    if (!this.#documents.has(manifest.config.digest)) return false;
    for (const layer of manifest.layers) {
      if ((await orMissing(this.#files.size(this.#path(layer.digest)))) !== undefined) return true;
    }
    return manifest.layers.length === 0;
  }

  #path(digest: Digest): string {
    if (!isDigest(digest)) throw new StoreError(`${digest} is not a sha256 digest`);
    return `${this.#folder}/blobs/sha256/${hexOf(digest)}`;
  }
}
