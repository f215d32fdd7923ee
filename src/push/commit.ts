/**
 * Commits images that were transferred: every manifest by digest in every repository, blobs that registries then deny
 * sent again, and only then the tags.
 */

import { explain, PushError, stepAndMessage } from '../common/error.ts';
import { type Descriptor, type Digest, isForeignLayer } from '../oci/types.ts';
import { walk } from '../oci/walk.ts';
import type { FoundImage } from '../source/source.ts';
import { activeRepositories, type PushContext, type SharedContext } from './context.ts';
import { blobsOf } from './image-blobs.ts';
import { type Document, documentsOf } from './image-manifests.ts';
import {
  type Denied,
  isMoving,
  type ManifestPut,
  moveAllTags,
  moveTags,
  putManifests,
  type TagMove,
} from './put-manifests.ts';
import type { KeptLayer } from './queue.ts';
import { tagsBefore } from './resolve.ts';
import type { TargetRepository } from './target-repository.ts';
import { type Transferred, transferImage } from './transfer-image.ts';

/** An image on its way: found, and transferred. */
export interface TransferredImage {
  readonly context: PushContext;
  readonly found: FoundImage;
  transferred: Transferred;
  /** Whether a repository is known to have one of its manifests, which then is not put. */
  has?(target: TargetRepository, digest: Digest): boolean;
}

/** What is committed of one image to one repository. */
interface RepositoryCommit extends ManifestPut {
  readonly image: TransferredImage;
  /** Its tags, those too that name the root already. */
  readonly moves: readonly TagMove[];
}

interface CommitOptions {
  readonly byDigest: boolean;
  readonly allOrNothing?: boolean;
  beforeTags?(): Promise<void>;
}

/** What a commit came to. */
interface Committed {
  /** Whether a tag names another digest now than before. */
  readonly changed: boolean;
}

/**
 * Commits images. `allOrNothing`, the default for several images: all tags move or none, and the first failure is
 * thrown. Otherwise a repository or tag that refuses fails alone. `beforeTags` runs when everything is there by its
 * digest.
 */
export async function commit(
  images: readonly TransferredImage[],
  shared: SharedContext,
  { byDigest, allOrNothing = images.length > 1, beforeTags = async () => {} }: CommitOptions,
): Promise<Committed> {
  const commits = await putWithHealing(images, shared, { byDigest, mayBeDirect: !allOrNothing });
  if (allOrNothing) throwFirstFailure(images);
  await beforeTags();
  const active = commits.filter(({ target }) => target.isActive);
  if (byDigest) {
    for (const { target, documents } of active)
      for (const reference of target.references) target.confirm(reference, documents.root.digest);
    return { changed: false };
  }
  for (const { target, tag } of active) if (tag) target.confirm(tag.reference, tag.root.digest);
  const left = active.flatMap(({ moves, tag }) => moves.filter((move) => move !== tag));
  if (allOrNothing) await moveAllTags(left, shared);
  else await moveTags(left, shared);
  const moves = active.flatMap((one) => one.moves);
  return { changed: moves.some((move) => isMoving(move) && move.target.digestOf(move.reference) !== undefined) };
}

/** Throws the first failure of any repository, named. */
export function throwFirstFailure(images: readonly Pick<TransferredImage, 'context'>[]): void {
  const registries = images.flatMap(({ context }) => context.registries);
  const [first] = registries.flatMap(({ repositories }) => repositories).flatMap(({ failures }) => failures);
  if (!first) return;
  const { destination, error } = first;
  const explained = explain(error);
  const { remedy } = explained;
  const what = `${destination}: ${stepAndMessage(explained)}; no tag has moved`;
  throw new PushError('Push', what, { cause: error, ...(remedy === undefined ? {} : { remedy }) });
}

/**
 * Rounds of sending again. In the first only what was named is sent; serverless-registry names one blob at a time, so
 * after a second denial its HEAD is not believed for any blob.
 */
const ROUNDS = 2;

/**
 * Puts the manifests. Blobs that a repository then denies are sent again without believing its HEAD: some answer HEAD
 * from a fallback or for a blob that is being deleted. Only the repositories that denied something can fail by this.
 */
async function putWithHealing(
  images: readonly TransferredImage[],
  shared: SharedContext,
  how: { byDigest: boolean; mayBeDirect: boolean },
): Promise<readonly RepositoryCommit[]> {
  let commits = withoutKnown(await commitsOf(images, how));
  let denied = await putManifests(commits, shared);
  const sent = new Set<Digest>();
  for (let round = 1; round <= ROUNDS && denied.size > 0; round += 1) {
    failForeignDenied(denied, images);
    failTwiceDenied(denied, sent);
    if (![...denied.keys()].some(({ isActive }) => isActive)) return commits;
    const names = [...denied.values()].flat().join(', ');
    shared.report({ type: 'notice', text: `The registry lacks ${names} after all: sending it again` });
    try {
      const before = commits;
      for (const image of images) await transferAgain(image, denied, sent, round);
      shared.report({ type: 'phase', phase: 'Manifest' });
      commits = await commitsOf(images, how);
      denied = await putManifests(commits.filter(isToPut(before, denied)), shared);
    } catch (error) {
      shared.signal.throwIfAborted();
      for (const target of denied.keys()) target.fail(error);
      return commits;
    }
  }
  failTwiceDenied(denied, sent);
  return commits;
}

/** What is put again: where something was denied, and where the root is another one now. */
const isToPut = (before: readonly RepositoryCommit[], denied: Denied) => (now: RepositoryCommit) =>
  denied.has(now.target) ||
  before.find(({ target }) => target === now.target)?.documents.root.digest !== now.documents.root.digest;

/** What is to be put for each image and repository. */
async function commitsOf(
  images: readonly TransferredImage[],
  { byDigest, mayBeDirect }: { byDigest: boolean; mayBeDirect: boolean },
): Promise<RepositoryCommit[]> {
  const repositories = images.flatMap(({ context }) => context.registries.flatMap((registry) => registry.repositories));
  const isAlone = mayBeDirect && repositories.length === 1;
  const commits = await Promise.all(
    images.map(async (image) => {
      const { tree, compressed } = image.transferred;
      const documents = documentsOf(tree, compressed, image.context.request.annotations.manifest);
      return Promise.all(
        activeRepositories(image.context).map(async (target): Promise<RepositoryCommit> => {
          const before = byDigest ? undefined : await tagsBefore(image.context, target);
          const moves = target.references.flatMap((reference): TagMove[] =>
            before === undefined
              ? []
              : [{ target, reference, root: documents.root, before: before.get(reference.tag!) }],
          );
          // The root can't be there without all that it names, unless a blob was missing.
          const hasRoot = moves.some((move) => !isMoving(move)) && !target.hasReceived;
          const [only] = moves;
          const isDirect = isAlone && moves.length === 1 && only !== undefined && isMoving(only);
          return { image, target, documents, moves, hasRoot, tag: isDirect ? only : undefined };
        }),
      );
    }),
  );
  return commits.flat();
}

/** Without the manifests that repositories are known to have. */
const withoutKnown = (commits: readonly RepositoryCommit[]): RepositoryCommit[] =>
  commits.map((one) => {
    const { image, target, documents, tag } = one;
    const { root } = documents;
    // The root of a tag that moves with it is put in any case.
    const isToPut = (document: Document) => (document === root && tag) || !image.has?.(target, document.digest);
    return { ...one, documents: { ...documents, all: documents.all.filter(isToPut) } };
  });

/** Transfers the blobs of an image again that its repositories deny. */
async function transferAgain(image: TransferredImage, denied: Denied, sent: Set<Digest>, round: number): Promise<void> {
  const { context, found, transferred: before } = image;
  const repositories = new Set(activeRepositories(context).filter((target) => denied.has(target)));
  if (repositories.size === 0) return;
  const named = [...repositories].flatMap((target) => denied.get(target) ?? []);
  const wanted = new Set(round === 1 ? named : digestsOf(before));
  for (const digest of sent) wanted.delete(digest);
  const again = await transferImage(context, found, { blobs: keysOf(wanted, before.compressed), repositories });
  const exported = again.exported === 'nothing' ? before.exported : again.exported;
  image.transferred = { ...again, exported, kept: keptOfBoth(before.kept, again.kept) };
  for (const digest of wanted) sent.add(digest);
}

/** Every blob of what was transferred. */
function digestsOf({ tree, compressed }: Transferred): Digest[] {
  return blobsOf(tree).map(({ key, plain }) => (plain ? (compressed.get(key)?.digest ?? key) : key));
}

/** The keys of blobs: a compressed layer is known to its source by its diffID. */
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

/** Foreign layers are never sent: a repository that wants them does not take the image. */
function failForeignDenied(denied: Denied, images: readonly TransferredImage[]): void {
  const trees = images.flatMap(({ transferred: { tree } }) => (tree.kind === 'manifests' ? [tree] : []));
  const layers = trees.flatMap((tree) => walk(tree).manifests.flatMap(({ manifest }) => manifest.layers));
  const foreign = new Set(layers.filter(isForeignLayer).map(({ digest }) => digest));
  for (const [target, digests] of denied) {
    const wanted = digests.filter((digest) => foreign.has(digest));
    if (wanted.length === 0) continue;
    const what = `${target.name} refuses foreign layers, whose bytes stay at their URLs: ${wanted.join(', ')}`;
    const remedy = 'allow the URLs in the registry (distribution: validation.manifests.urls.allow)';
    target.fail(new PushError('Manifest', what, { remedy }));
  }
}

function failTwiceDenied(denied: Denied, sent: ReadonlySet<Digest>): void {
  for (const [target, digests] of denied) {
    const lost = digests.filter((digest) => sent.has(digest));
    if (lost.length === 0) continue;
    const what = `${target.name} took ${lost.join(', ')} and then says that it is unknown, twice`;
    const remedy = 'look at the registry and its storage: it loses blobs that it has confirmed';
    target.fail(new PushError('Manifest', what, { remedy }));
  }
}
