/** A classic store: a config, and layers that lie unpacked in folders and are put together again from tar-split. */
import { readConfig, verifyDocument } from '../documents.ts';
import type { Digest } from '../oci.ts';
import type { StoredBlob, StoreSource } from '../source.ts';
import { StoreError } from './errors.ts';
import { orMissing, type StoreFiles } from './files.ts';

/** Where a layer lies. */
export interface UnpackedLayer {
  readonly diffId: Digest;
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

/** The source that these layers (from the base up) and config make. Throws StoreError when a layer's record can't be read. */
export async function composedStore(
  files: StoreFiles,
  description: string,
  config: Buffer,
  layers: readonly UnpackedLayer[],
): Promise<StoreSource> {
  const byDiffId = new Map(layers.map((layer) => [layer.diffId, layer]));
  for (const { tarSplit, diffId } of byDiffId.values()) {
    const size = await orMissing(files.size(tarSplit));
    if (size === undefined) throw new StoreError(`the layer ${diffId} has no record of its tar at ${tarSplit}`);
  }
  return {
    kind: 'store',
    description,
    tree: { kind: 'composed', config, diffIds: layers.map(({ diffId }) => diffId) },
    open: async (digest) => {
      const layer = byDiffId.get(digest);
      return layer && unpacked(files, layer);
    },
    close: () => files.close(),
  };
}

/** A layer that is put together as it is read: always the whole, for only tar-split knows where its files lie in it. */
function unpacked(files: StoreFiles, { size, tarSplit, folder }: UnpackedLayer): StoredBlob {
  return {
    ...(size === undefined ? {} : { size }),
    form: 'tar',
    seekable: false,
    read: (start, end) => {
      if (start || end !== undefined) throw new RangeError('a layer that is put together has no ranges');
      return files.layer(tarSplit, folder);
    },
  };
}
