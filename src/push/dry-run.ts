/** Says what a push would move, and changes nothing: only HEAD and GET requests are sent, and no engine's `save` runs. */

import type { ImageTree } from '../oci/image-tree.ts';
import { selectPlatforms } from '../oci/platforms.ts';
import { formatReference } from '../oci/reference.ts';
import type { FoundImage } from '../source/source.ts';
import { activeRegistries, type PushContext } from './context.ts';
import { candidatesOf } from './existing.ts';
import { blobsOf, type ImageBlob, shortDigest, uncompressedLayer } from './image-blobs.ts';
import { treeWithoutExport } from './plan.ts';

/** A line for every blob: whether it is there, or would be uploaded. Throws when no registry can be asked. */
export async function tellDryRun(job: PushContext, found: FoundImage): Promise<void> {
  const pieces = await knownPieces(job, found);
  job.report({ type: 'phase', phase: 'Upload' });
  for (const target of activeRegistries(job)) {
    for (const piece of pieces ?? []) await tellPiece(job, target, piece);
  }
  if (!pieces) job.report({ type: 'info', text: 'Would export the image: only its export tells the layers it has' });
  for (const { repositories: destinations } of activeRegistries(job)) {
    for (const reference of destinations.flatMap(({ references }) => references)) {
      job.report({ type: 'info', text: `Would put the manifest as ${formatReference(reference)}` });
    }
  }
}

async function knownPieces(job: PushContext, found: FoundImage): Promise<ImageBlob[] | undefined> {
  const tree = found.engine ? await treeWithoutExport(job, found) : await treeOfFile(job, found);
  if (tree) return blobsOf(selectPlatforms(tree, job.request.platforms).tree);
  return found.root === undefined ? found.diffIds?.map((diffId) => uncompressedLayer(diffId)) : undefined;
}

async function treeOfFile(job: PushContext, found: FoundImage): Promise<ImageTree | undefined> {
  const ignore = () => {};
  const source = await found.open({ signal: job.signal, debug: ignore, notice: ignore });
  await source.close();
  return source.kind === 'store' ? source.tree : undefined;
}

async function tellPiece(job: PushContext, target: PushContext['registries'][number], piece: ImageBlob): Promise<void> {
  const { key, size } = piece;
  let isThere = false;
  for (const { digest } of await candidatesOf(job, piece)) {
    // Only HEAD: a mount would change the registry.
    const heads = target.active.map(({ repository, signal }) => repository.headBlob(digest, signal));
    isThere ||= (await Promise.all(heads)).every(({ state }) => state === 'present');
  }
  const bytes = size === undefined ? '' : ` (${size} bytes)`;
  const text = `${shortDigest(key)}: ${isThere ? 'exists' : `would be uploaded${bytes}`} at ${target.host}`;
  job.report({ type: 'info', text });
}
