/** Commits an image: its manifests by digest from the leaves up, then the root under every tag. */
import { type Descriptor, type Digest, digestOf, MediaType } from '../image/oci.ts';
import type { ImageTree } from '../image/source.ts';
import { composeManifest, rewriteTree, walk } from '../image/tree.ts';
import { BlobUnknownError, type ConfirmedManifest } from '../registry/manifests.ts';
import type { Destination } from './destination.ts';
import type { Report } from './events.ts';
import { type Job, livingTargets } from './job.ts';
import { listReferrers, type Referrer, referrersOf } from './referrers.ts';

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
  /** Those of them that speak about another manifest (`subject`), by their digests. */
  readonly referrers: ReadonlyMap<Digest, Referrer>;
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
    return { all: [root], root, referrers: new Map() };
  }
  const walked = walk(rewriteTree(tree, compressed));
  const all = walked.documents.map(({ descriptor, bytes }) => ({ ...descriptor, bytes }));
  const root = all.find(({ digest }) => digest === walked.root.descriptor.digest) as Document;
  return { all, root, referrers: referrersOf(walked) };
}

function descriptorOf(compressed: ReadonlyMap<Digest, Descriptor>, diffId: Digest): Descriptor {
  const descriptor = compressed.get(diffId);
  if (!descriptor) throw new Error(`no compressed blob is known for layer ${diffId}`);
  return descriptor;
}

/** Blobs that repositories say they lack, when a manifest that names them comes. */
export type Denied = ReadonlyMap<Destination, readonly Digest[]>;

/**
 * Puts the documents into every living repository. One that refuses them fails alone; digests that repositories say they
 * lack after all are given back, so that those blobs can be sent again (registry rules, T9).
 */
export async function commit(job: Job, documents: Documents): Promise<Denied> {
  const denied = new Map<Destination, readonly Digest[]>();
  const destinations = livingTargets(job).flatMap(({ living }) => living);
  await Promise.all(
    destinations.map(async (destination) => {
      try {
        await putAll(destination, documents, job.report);
      } catch (error) {
        if (error instanceof BlobUnknownError && error.digests.length > 0) denied.set(destination, error.digests);
        else destination.fail(error);
      }
    }),
  );
  job.signal.throwIfAborted();
  return denied;
}

/** Puts the children first, then the root, then what speaks about them, and lists that where the registry does not. */
async function putAll(destination: Destination, documents: Documents, report: Report): Promise<void> {
  const unlisted: Referrer[] = [];
  for (const document of documents.all) {
    const put =
      document === documents.root
        ? await putRoot(destination, document)
        : await putDocument(destination, document, document.digest);
    if (!put) return;
    const referrer = documents.referrers.get(document.digest);
    if (referrer && put.subject === undefined) unlisted.push(referrer);
  }
  await listReferrers(destination, unlisted, report);
}

const putDocument = (
  { repository, signal }: Destination,
  { bytes, mediaType }: Document,
  reference: string,
): Promise<ConfirmedManifest> => repository.putManifest(bytes, mediaType, reference, signal);

/**
 * Puts the root under each tag. A tag that is refused (some are immutable) leaves the others. Gives the answer to the last one
 * that was taken; undefined when none was: the destination has failed.
 */
async function putRoot(destination: Destination, root: Document): Promise<ConfirmedManifest | undefined> {
  let taken: ConfirmedManifest | undefined;
  for (const reference of destination.references) {
    try {
      taken = await putDocument(destination, root, reference.tag ?? 'latest');
      destination.confirm(reference, root.digest);
    } catch (error) {
      if (error instanceof BlobUnknownError) throw error;
      destination.refuse(reference, error);
    }
  }
  return destination.alive ? taken : undefined;
}
