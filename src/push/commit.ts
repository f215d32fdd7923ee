/** Commits an image: its manifests by digest from the leaves up, then the root under every tag. */
import { type Descriptor, type Digest, digestOf, MediaType } from '../image/oci.ts';
import type { ImageTree } from '../image/source.ts';
import { composeManifest, rewriteTree, walk } from '../image/tree.ts';
import { BlobUnknownError } from '../registry/manifests.ts';
import { type Job, livingTargets } from './job.ts';
import type { Target, TargetRepository } from './target.ts';

/** One manifest or index, ready to be put. */
interface Document {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

/** The documents of a push in the order to put them: children before parents, referrers after the root, which the tags name. */
export interface Documents {
  readonly all: readonly Document[];
  readonly root: Document;
}

/**
 * Makes the documents that are pushed: a manifest for an image that has none, the image's own byte for byte when all
 * of its layers came compressed, and rewritten ones where plain layers were compressed. `compressed` maps diffIDs.
 */
export function documentsOf(tree: ImageTree, compressed: ReadonlyMap<Digest, Descriptor>): Documents {
  if (tree.kind === 'composed') {
    const config = { mediaType: MediaType.ociConfig, digest: digestOf(tree.config), size: tree.config.length };
    const bytes = composeManifest(
      config,
      tree.diffIds.map((diffId) => descriptorOf(compressed, diffId)),
    );
    const root = { digest: digestOf(bytes), mediaType: MediaType.ociManifest, bytes };
    return { all: [root], root };
  }
  const { documents, root } = walk(rewriteTree(tree, compressed));
  const all = documents.map(({ descriptor, bytes }) => ({ ...descriptor, bytes }));
  return { all, root: all.find(({ digest }) => digest === root.descriptor.digest) as Document };
}

function descriptorOf(compressed: ReadonlyMap<Digest, Descriptor>, diffId: Digest): Descriptor {
  const descriptor = compressed.get(diffId);
  if (!descriptor) throw new Error(`no compressed blob is known for layer ${diffId}`);
  return descriptor;
}

/**
 * Puts the documents into every repository of every living target. A target that refuses one fails alone; digests that
 * targets say they lack after all are given back, so that those blobs can be sent again (registry rules, T9).
 */
export async function commit(job: Job, documents: Documents): Promise<ReadonlySet<Digest>> {
  const unknown = new Set<Digest>();
  await Promise.all(
    livingTargets(job).map(async (target) => {
      try {
        for (const repository of target.repositories) await putAll(target, repository, documents);
      } catch (error) {
        if (!(error instanceof BlobUnknownError)) return target.fail(error);
        for (const digest of error.digests) unknown.add(digest);
        if (error.digests.length === 0) target.fail(error);
      }
    }),
  );
  job.signal.throwIfAborted();
  return unknown;
}

async function putAll(target: Target, to: TargetRepository, { all, root }: Documents): Promise<void> {
  const { repository, references } = to;
  for (const document of all) {
    const { bytes, mediaType, digest } = document;
    if (document !== root) {
      await repository.putManifest(bytes, mediaType, digest, target.signal);
      continue;
    }
    for (const { tag } of references) {
      await repository.putManifest(bytes, mediaType, tag ?? 'latest', target.signal);
      target.committed.add(`${repository.name}:${tag ?? 'latest'}`);
    }
  }
}
