/** ChainIDs: the names of stacks of layers. image-spec config.md, "Layer ChainID". */
import { type Digest, digestOf } from './types.ts';

/** The chainIDs of layers from the base up: that of each layer with all that are below it. */
export function chainIdsOf(diffIds: readonly Digest[]): Digest[] {
  const chainIds: Digest[] = [];
  for (const diffId of diffIds) {
    const below = chainIds.at(-1);
    chainIds.push(below === undefined ? diffId : digestOf(Buffer.from(`${below} ${diffId}`)));
  }
  return chainIds;
}
