/** Commits an image: its manifests by digest from the leaves up, then the root under every tag. */

import type { ImageTree } from '../oci/image-tree.ts';
import { composeManifest, rewriteTree } from '../oci/rewrite.ts';
import { type Descriptor, type Digest, digestOf, MediaType } from '../oci/types.ts';
import { walk } from '../oci/walk.ts';
import { BlobUnknownError, type ConfirmedManifest } from '../registry/manifests.ts';
import type { FoundImage } from '../source/source.ts';
import { activeRegistries, type PushContext } from './context.ts';
import { PushError } from './error.ts';
import type { Report } from './events.ts';
import { blobsOf } from './image-blobs.ts';
import { type Moved, move } from './move.ts';
import { listReferrers, type Referrer, referrersOf } from './referrers.ts';
import type { TargetRepository } from './target-repository.ts';
import type { KeptLayer } from './upload-queue.ts';

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
export type Denied = ReadonlyMap<TargetRepository, readonly Digest[]>;

/**
 * Puts the documents into every living repository. One that refuses them fails alone; digests that repositories say they
 * lack after all are given back, so that those blobs can be sent again.
 */
export async function commit(job: PushContext, documents: Documents): Promise<Denied> {
  const denied = new Map<TargetRepository, readonly Digest[]>();
  const destinations = activeRegistries(job).flatMap(({ active: living }) => living);
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
async function putAll(destination: TargetRepository, documents: Documents, report: Report): Promise<void> {
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
  { repository, signal }: TargetRepository,
  { bytes, mediaType }: Document,
  reference: string,
): Promise<ConfirmedManifest> => repository.putManifest(bytes, mediaType, reference, signal);

/**
 * Puts the root under each tag. A tag that is refused (some are immutable) leaves the others. Gives the answer to the last one
 * that was taken; undefined when none was: the destination has failed.
 */
async function putRoot(destination: TargetRepository, root: Document): Promise<ConfirmedManifest | undefined> {
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
  return destination.isActive ? taken : undefined;
}

/** Commits what was moved, and sends again what registries then deny. */

/**
 * Rounds of sending again. In the first only what was named is sent; serverless-registry names one blob at a time, so after
 * a second denial its HEAD is not believed for any blob.
 */
const ROUNDS = 2;

/**
 * Puts the manifests of what was moved. Blobs that a repository then denies are sent again without believing its HEAD:
 * some answer HEAD from a fallback or for a blob that is being deleted. Gives what was moved in the end. Only the
 * repositories that denied something can fail by this.
 */
export async function commitMoved(job: PushContext, found: FoundImage, first: Moved): Promise<Moved> {
  let moved = first;
  let denied = await commit(job, documentsOf(moved.tree, moved.compressed));
  const sent = new Set<Digest>();
  for (let round = 1; round <= ROUNDS && denied.size > 0; round += 1) {
    failTwiceDenied(denied, sent);
    const wanted = new Set(round === 1 ? [...denied.values()].flat() : digestsOf(moved));
    for (const digest of sent) wanted.delete(digest);
    if (![...denied.keys()].some(({ isActive: alive }) => alive)) return moved;
    const names = [...denied.values()].flat().join(', ');
    job.report({ type: 'notice', text: `The registry lacks ${names} after all: sending it again` });
    try {
      moved = await moveAgain(job, found, moved, wanted, denied);
      for (const digest of wanted) sent.add(digest);
      denied = await commit(job, documentsOf(moved.tree, moved.compressed));
    } catch (error) {
      job.signal.throwIfAborted();
      for (const destination of denied.keys()) destination.fail(error);
      return moved;
    }
  }
  failTwiceDenied(denied, sent);
  return moved;
}

async function moveAgain(
  job: PushContext,
  found: FoundImage,
  before: Moved,
  digests: ReadonlySet<Digest>,
  denied: Denied,
): Promise<Moved> {
  const force = { pieces: keysOf(digests, before.compressed), destinations: new Set(denied.keys()) };
  const again = await move(job, found, force);
  job.report({ type: 'phase', phase: 'Manifest' });
  const exported = again.exported === 'nothing' ? before.exported : again.exported;
  return { ...again, exported, kept: keptOfBoth(before.kept, again.kept) };
}

/** Every blob of what was moved. */
function digestsOf({ tree, compressed }: Moved): Digest[] {
  return blobsOf(tree).map(({ key, plain }) => (plain ? (compressed.get(key)?.digest ?? key) : key));
}

/** The pieces that blobs stand for: a compressed layer is known to its source by its diffID. */
function keysOf(digests: ReadonlySet<Digest>, compressed: ReadonlyMap<Digest, Descriptor>): ReadonlySet<Digest> {
  const plain = [...compressed].filter(([, { digest }]) => digests.has(digest)).map(([diffId]) => diffId);
  return new Set([...digests, ...plain]);
}

/** What was made in an earlier round is only found to be there in a later one: its file is still worth keeping. */
function keptOfBoth(first: readonly KeptLayer[], again: readonly KeptLayer[]): KeptLayer[] {
  return again.map((layer) => {
    const same = ({ diffId, descriptor }: KeptLayer) =>
      diffId === layer.diffId && descriptor.digest === layer.descriptor.digest;
    return layer.path ? layer : (first.find(same) ?? layer);
  });
}

function failTwiceDenied(denied: Denied, sent: ReadonlySet<Digest>): void {
  for (const [destination, digests] of denied) {
    const lost = digests.filter((digest) => sent.has(digest));
    if (lost.length === 0) continue;
    const what = `${destination.name} took ${lost.join(', ')} and then says that it is unknown, twice`;
    const remedy = 'look at the registry and its storage: it loses blobs that it has confirmed';
    destination.fail(new PushError('Manifest', what, { remedy }));
  }
}
