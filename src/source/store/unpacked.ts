/** A classic store: a config, and layers that lie unpacked in folders and are put together again from tar-split. */

import type { StoredBlob } from '../../blob/blob.ts';
import { parseJson, readDiffIds, verifyDocument } from '../../oci/documents.ts';
import { chainIdsOf, type Digest, isDigest } from '../../oci/types.ts';
import type { StoreSource } from '../source.ts';
import { findDocument, orMissing, type StoreFiles } from './files/files.ts';
import { StoreError } from './files/folder.ts';

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

/**
 * Docker's classic store with the overlay2 driver: configs in imagedb, a record of each layer in layerdb under its
 * chainID, its files in overlay2/<cache-id>/diff. https://docs.docker.com/engine/storage/drivers/overlayfs-driver/
 */
const hexOf = (digest: Digest): string => digest.slice('sha256:'.length);

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
  const id = imageId.slice('sha256:'.length);
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
