/**
 * Docker's classic store with the overlay2 driver: configs in imagedb, a record of each layer in layerdb under its chainID,
 * its files in overlay2/<cache-id>/diff. https://docs.docker.com/engine/storage/drivers/overlayfs-driver/
 */
import { chainIdsOf } from '../../oci/chain-id.ts';
import type { Digest } from '../../oci/types.ts';
import type { StoreSource } from '../source.ts';
import type { StoreFiles } from './files/files.ts';
import { StoreError } from './files/store-error.ts';
import { composedStore, diffIdsOf, type LayerPlace } from './unpacked.ts';

const hexOf = (digest: Digest): string => digest.slice('sha256:'.length);

/** Opens an image by its ID below Docker's root folder. Throws StoreError, ImageError for a config that can't be used. */
export async function openOverlay2(files: StoreFiles, root: string, imageId: Digest): Promise<StoreSource> {
  const config = await files.bytes(`${root}/image/overlay2/imagedb/content/sha256/${hexOf(imageId)}`);
  const diffIds = diffIdsOf(config, imageId);
  const chainIds = chainIdsOf(diffIds);
  const layers = diffIds.map((diffId, position) => ({
    diffId,
    locate: () => locate(files, root, diffId, chainIds[position]!),
  }));
  return composedStore(files, `the overlay2 store of Docker (${root})`, config, layers);
}

async function locate(files: StoreFiles, root: string, diffId: Digest, chainId: Digest): Promise<LayerPlace> {
  const record = `${root}/image/overlay2/layerdb/sha256/${hexOf(chainId)}`;
  const [diff, cacheId] = await Promise.all(
    ['diff', 'cache-id'].map(async (name) => (await files.bytes(`${record}/${name}`)).toString('utf8').trim()),
  );
  if (diff !== diffId) throw new StoreError(`${record} is of the layer ${diff}, not of ${diffId}`, { path: record });
  if (!/^[0-9a-z]+$/.test(cacheId!)) throw new StoreError(`${record}/cache-id names no folder`, { path: record });
  return { tarSplit: `${record}/tar-split.json.gz`, folder: `${root}/overlay2/${cacheId}/diff` };
}
