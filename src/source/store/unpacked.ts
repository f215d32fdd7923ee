/** A classic store: a config, and layers that lie unpacked in folders and are put together again from tar-split. */

import type { StoredBlob } from '../../blob/blob.ts';
import { readConfig, verifyDocument } from '../../oci/documents.ts';
import type { Digest } from '../../oci/types.ts';
import type { StoreSource } from '../source.ts';
import { orMissing, type StoreFiles } from './files/files.ts';
import { StoreError } from './files/store-error.ts';

/** A layer of the store. Nothing of it is looked at before it is asked for. */
export interface UnpackedLayer {
  readonly diffId: Digest;
  /** Finds its files. Throws StoreError when its record can't be read. */
  locate(): Promise<LayerPlace>;
}

/** Where a layer lies. */
export interface LayerPlace {
  /** The tar-split file, in gzip. */
  readonly tarSplit: string;
  /** The folder that the layer's tar was unpacked to. */
  readonly folder: string;
  /** The length of the tar in bytes, where the store keeps it. */
  readonly size?: number;
}

/** The diffIDs that a config names, in order, after the config was seen to be the one with this digest. Throws ImageError. */
export function diffIdsOf(config: Buffer, digest: Digest): readonly Digest[] {
  const what = `the config ${digest}`;
  verifyDocument(config, { digest }, what);
  return readConfig(config, what).rootfs.diff_ids;
}

/** The source that these layers (from the base up) and config make. Opening a layer throws StoreError when it has no record. */
export function composedStore(
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

/** A layer that is put together as it is read: always from its first byte to its last, for only tar-split has its order. */
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
