/** Says what a push would move, and changes nothing: only HEAD and GET requests are sent, and no engine's `save` runs. */

import type { ImageTree } from '../oci/image-tree.ts';
import { formatReference } from '../oci/reference.ts';
import type { FoundImage } from '../source/source.ts';
import { activeRegistries, type PushContext } from './context.ts';
import { blobsOf, type ImageBlob } from './image-blobs.ts';
import { candidatesOf } from './plan.ts';
import { layersTold, selected, treeWithoutExport } from './resolve.ts';

/** A line for every blob: whether it is there, or would be uploaded. Throws when no registry can be asked. */
export async function reportDryRun(job: PushContext, found: FoundImage): Promise<void> {
  const blobs = await blobsToReport(job, found);
  job.report({ type: 'phase', phase: 'Upload' });
  for (const target of activeRegistries(job)) {
    for (const blob of blobs ?? []) await reportBlob(job, target, blob);
  }
  if (!blobs) job.report({ type: 'info', text: 'Would export the image: only its export tells the layers it has' });
  for (const { repositories } of activeRegistries(job)) {
    for (const reference of repositories.flatMap(({ references }) => references)) {
      job.report({ type: 'info', text: `Would put the manifest as ${formatReference(reference)}` });
    }
  }
}

async function blobsToReport(job: PushContext, found: FoundImage): Promise<ImageBlob[] | undefined> {
  const tree = found.engine ? await treeWithoutExport(job, found) : await treeOfFile(job, found);
  if (tree) job.names.learnTree(tree);
  if (tree) return blobsOf(selected(job, tree));
  return found.root === undefined && found.diffIds ? layersTold(found) : undefined;
}

async function treeOfFile(job: PushContext, found: FoundImage): Promise<ImageTree | undefined> {
  const ignore = () => {};
  const source = await found.open({ signal: job.signal, debug: ignore, notice: ignore });
  await source.close();
  return source.kind === 'store' ? source.tree : undefined;
}

async function reportBlob(job: PushContext, target: PushContext['registries'][number], blob: ImageBlob): Promise<void> {
  const { size } = blob;
  let isThere = false;
  for (const { digest } of await candidatesOf(job, blob)) {
    // Only HEAD: a mount would change the registry.
    const heads = target.active.map(({ repository, signal }) => repository.headBlob(digest, signal));
    isThere ||= (await Promise.all(heads)).every(({ state }) => state === 'present');
  }
  const bytes = size === undefined ? '' : ` (${size} bytes)`;
  const text = `${job.names.nameOf(blob)}: ${isThere ? 'exists' : `would be uploaded${bytes}`} at ${target.host}`;
  job.report({ type: 'info', text });
}
