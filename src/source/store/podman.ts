/**
 * Podman's store (containers/storage with the overlay driver): lists of images and layers in JSON, configs as "big data" beside
 * the image's record, layers in overlay/<id>/diff. https://github.com/containers/storage/tree/main/docs
 */
import { parseJson } from '../../oci/documents.ts';
import { type Digest, isDigest } from '../../oci/types.ts';
import type { StoreSource } from '../source.ts';
import { findDocument, type StoreFiles } from './files/files.ts';
import { StoreError } from './files/store-error.ts';
import { composedStore, diffIdsOf, type UnpackedLayer } from './unpacked.ts';

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

/** Opens an image by its ID below Podman's graph root. Throws StoreError, ImageError for a config that can't be used. */
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
    locate(root, diffIdsOf(config, imageId), chain),
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

/** Pairs the config's diffIDs with the layers. One that was found by its blob alone may lack its diffID: reading tells. */
function locate(root: string, diffIds: readonly Digest[], chain: readonly LayerRecord[]): UnpackedLayer[] {
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
