/** A merge: images in registries become one index, which is put everywhere by its digest before any tag moves to it. */

import { explain } from '../common/error.ts';
import type { ManifestTree } from '../oci/image-tree.ts';
import { isImageEntry, mergedTree } from '../oci/merge.ts';
import { formatPlatform } from '../oci/platforms.ts';
import { formatReference } from '../oci/reference.ts';
import type { Digest } from '../oci/types.ts';
import { walk } from '../oci/walk.ts';
import type { Repository } from '../registry/repository.ts';
import { blobsInRegistry } from '../source/registry/blobs.ts';
import type { FoundImage } from '../source/source.ts';
import { commit, throwFirstFailure } from './commit.ts';
import { activeRepositories, contextOf, type PushContext, type SharedContext } from './context.ts';
import { type MergeParts, notServed, readParts, whenServed } from './merge-parts.ts';
import type { MergeRequest } from './options.ts';
import { type PushResult, resultOf } from './result.ts';
import type { TargetRepository } from './target-repository.ts';
import { type Transferred, transferImage } from './transfer-image.ts';

/**
 * Merges. Resolves to the index's digest when every tag names it. Throws when a part or a platform is missing, and when
 * any registry refuses the index or a tag: no tag has moved then.
 */
export async function merge(shared: SharedContext<MergeRequest>): Promise<PushResult> {
  const { request, stats, report } = shared;
  // The parts go as they are: `platforms` has been looked at, and annotations are in the index.
  const asTheyAre = { ...request, platforms: [], annotations: { manifest: {}, index: {} } };
  const context = contextOf({ ...shared, request: asTheyAre }, { image: 'merge', destinations: request.destinations });
  const parts = await stats.time('resolve', () => readParts(shared));
  const tree = mergedTree(parts.entries, parts.documents, request.annotations.index);
  const found = foundImage(tree, parts, context);
  const platforms = parts.entries.filter(isImageEntry).map(({ platform }) => formatPlatform(platform));
  report({ type: 'info', text: `Index ${tree.root.digest}: ${platforms.join(', ')}` });
  if (request.dryRun) {
    for (const one of request.destinations) report({ type: 'info', text: `Would put it as ${formatReference(one)}` });
    return resultOf(shared, [{ context, found }], { exported: 'nothing', changed: false });
  }
  const transferred = await stats.time('transfer', () => transfer(context, found, tree, parts));
  const image = { context, found, transferred, has: hasOf(parts) };
  throwFirstFailure([image]);
  report({ type: 'phase', phase: 'Manifest' });
  const beforeTags = () => readBack(context, tree.root.digest);
  const { changed } = await stats.time('manifest', () =>
    commit([image], shared, { byDigest: false, allOrNothing: true, beforeTags }),
  );
  if (request.cleanup) await cleanUp(parts, context);
  return resultOf(shared, [image], { exported: transferred.exported, changed });
}

/** The index as an image whose blobs are mounted, or else read, from the repositories of its parts. */
function foundImage(tree: ManifestTree, { places }: MergeParts, { known, signal }: PushContext): FoundImage {
  const repositories = new Map<Digest, Repository>();
  for (const { descriptor, manifest } of walk(tree).manifests) {
    for (const { digest } of [manifest.config, ...manifest.layers]) {
      for (const { host, repository } of places.get(descriptor.digest) ?? []) {
        known.addRepository(host, digest, repository.name);
        repositories.set(digest, repository);
      }
    }
  }
  const { digest } = tree.root;
  return {
    name: `the index ${digest}`,
    imageId: digest,
    root: digest,
    documents: async () => tree,
    open: async () => blobsInRegistry('the repositories of its parts', tree, (blob) => repositories.get(blob), signal),
  };
}

/** Whether a part was read from a repository: its manifest need not be put there, nor its blobs be looked for. */
const hasOf =
  ({ places }: MergeParts) =>
  ({ repository }: TargetRepository, digest: Digest): boolean =>
    [...(places.get(digest) ?? [])].some((place) => place.repository === repository);

async function transfer(
  context: PushContext,
  found: FoundImage,
  tree: ManifestTree,
  parts: MergeParts,
): Promise<Transferred> {
  const has = hasOf(parts);
  const isAllThere = activeRepositories(context).every((target) =>
    parts.entries.every(({ digest }) => has(target, digest)),
  );
  if (!isAllThere) return transferImage(context, found);
  return { tree, compressed: new Map(), kept: [], exported: 'nothing' };
}

/** Every repository serves the index, before a tag names it. */
async function readBack(context: PushContext, digest: Digest): Promise<void> {
  const remedy = 'look at the registry and its storage: it does not serve what it has confirmed';
  await Promise.all(
    activeRepositories(context).map(({ repository, name, signal }) =>
      whenServed(async () => {
        if (!(await repository.getManifest(digest, signal))) throw notServed(name, digest, remedy);
      }, context),
    ),
  );
}

/** Deletes the tags that a `*` matched. What a registry refuses is reported once for each repository. */
async function cleanUp(parts: MergeParts, context: PushContext): Promise<void> {
  const { report, signal } = context;
  const targets = new Set(activeRepositories(context).map(({ repository }) => repository));
  for (const matches of Map.groupBy(parts.matches, ({ name }) => name).values()) {
    const left = [...matches];
    let reason = 'this registry deletes no tags';
    try {
      for (const { repository, reference, text, entries } of matches) {
        if ((await repository.deleteManifest(reference, signal)) === 'unsupported') break;
        left.shift();
        report({ type: 'info', text: `merge-cleanup: deleted ${text}` });
        if (targets.has(repository)) await keepManifests(repository, entries, parts, context);
      }
    } catch (error) {
      signal.throwIfAborted();
      reason = explain(error).message;
    }
    const names = left.map(({ reference }) => reference).join(', ');
    if (left.length > 0)
      report({ type: 'notice', text: `merge-cleanup: ${matches[0]!.name} keeps ${names}: ${reason}` });
  }
}

/**
 * ECR deletes an image with its last tag. Where a registry does so though an index names the image, it is put again by
 * its digest.
 */
async function keepManifests(
  repository: Repository,
  entries: Part['entries'],
  { documents }: MergeParts,
  { report, signal }: PushContext,
): Promise<void> {
  for (const { digest, mediaType } of entries) {
    try {
      if (await repository.headManifest(digest, signal)) continue;
      await repository.putManifest(documents.get(digest)!, mediaType, digest, signal);
    } catch (error) {
      signal.throwIfAborted();
      const what = `merge-cleanup: the registry may have deleted ${digest} with its tag, and the index names it`;
      report({ type: 'warning', text: `${what}: ${explain(error).message}` });
    }
  }
}

type Part = MergeParts['matches'][number];
