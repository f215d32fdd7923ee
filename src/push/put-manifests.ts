/**
 * Puts the manifests of images by digest, from the leaves up, in every repository; only then tags move, with several
 * images all of them, or none.
 */

import { explain, PushError, stepAndMessage } from '../common/error.ts';
import { formatReference, type Reference } from '../oci/reference.ts';
import { type Digest, type Index, isIndexType } from '../oci/types.ts';
import { BlobUnknownError, type ConfirmedManifest } from '../registry/manifests.ts';
import type { SharedContext } from './context.ts';
import type { Report } from './events.ts';
import { type Document, type Documents, listReferrers, type Referrer } from './image-manifests.ts';
import type { TagBefore } from './resolve.ts';
import type { TargetRepository } from './target-repository.ts';

/** What is put into one repository. */
export interface ManifestPut {
  readonly target: TargetRepository;
  readonly documents: Documents;
  /**
   * The tag to put the root under at once, where no other repository or tag must wait for it; by its digest without
   * one.
   */
  readonly tag?: TagMove | undefined;
  /** The registry has the root and all that it names: only what refers to it is put. */
  readonly hasRoot?: boolean;
}

/** Blobs that repositories say they lack, when a manifest that names them comes. */
export type Denied = ReadonlyMap<TargetRepository, readonly Digest[]>;

/**
 * Puts documents into their repositories, all at once. A repository that refuses them fails alone; digests that
 * repositories say they lack are returned, so that those blobs can be sent again. Throws the signal's reason.
 */
export async function putManifests(
  puts: readonly ManifestPut[],
  { report, signal }: { report: Report; signal: AbortSignal },
): Promise<Denied> {
  const denied = new Map<TargetRepository, readonly Digest[]>();
  await Promise.all(
    puts.map(async (put) => {
      const { target } = put;
      if (!target.isActive) return;
      try {
        await putAll(put, report);
      } catch (error) {
        if (error instanceof BlobUnknownError && error.digests.length > 0) denied.set(target, error.digests);
        else target.fail(error);
      }
    }),
  );
  signal.throwIfAborted();
  return denied;
}

/**
 * Puts the documents level by level, those of a level at once; then lists referrers where the registry does not do it.
 */
async function putAll({ target, documents, tag, hasRoot }: ManifestPut, report: Report): Promise<void> {
  const unlisted: Referrer[] = [];
  const { all, root, referrers } = documents;
  const rootAt = all.indexOf(root);
  const put = async (document: Document): Promise<void> => {
    const { subject } = document === root && tag ? await putTag(tag) : await putDocument(target, document);
    const referrer = referrers.get(document.digest);
    if (referrer && subject === undefined) unlisted.push(referrer);
  };
  if (!hasRoot) for (const level of levelsOf(all.slice(0, rootAt + 1))) await Promise.all(level.map(put));
  for (const level of levelsOf(all.slice(rootAt + 1))) await Promise.all(level.map(put));
  await listReferrers(target, unlisted, report);
}

const putDocument = (
  { repository, signal }: TargetRepository,
  { bytes, mediaType, digest }: Document,
): Promise<ConfirmedManifest> => repository.putManifest(bytes, mediaType, digest, signal);

/** Documents in groups: each names only documents of earlier groups. `documents` has children before parents. */
function levelsOf(documents: readonly Document[]): Document[][] {
  const levels: Document[][] = [];
  const levelOf = new Map<Digest, number>();
  for (const document of documents) {
    const level = Math.max(0, ...namedBy(document).map((digest) => (levelOf.get(digest) ?? -1) + 1));
    levelOf.set(document.digest, level);
    levels[level] = [...(levels[level] ?? []), document];
  }
  return levels;
}

/** The manifests that a document names: children of an index, and its subject. */
function namedBy({ mediaType, bytes }: Document): Digest[] {
  const { manifests, subject } = JSON.parse(bytes.toString('utf8')) as Partial<Index>;
  const children = isIndexType(mediaType) ? (manifests ?? []) : [];
  return [...children, ...(subject ? [subject] : [])].map(({ digest }) => digest);
}

// Moves tags to manifests that their repositories have; with several images all of them, or none.

/** One tag and what it shall name. */
export interface TagMove {
  readonly target: TargetRepository;
  readonly reference: Reference;
  /** The manifest or index, which the repository has already. */
  readonly root: Document;
  /** What the tag named when the push began. */
  readonly before: TagBefore;
}

/** Whether the tag names another digest before than after; a tag whose digest is not known counts as moved. */
export const isMoving = ({ before, root }: TagMove): boolean => before === 'unknown' || before?.digest !== root.digest;

/**
 * Moves tags, each for itself: one that is refused (some are immutable) leaves the others. A tag that names the digest
 * already is left alone. Throws the signal's reason.
 */
export async function moveTags(moves: readonly TagMove[], { signal }: Pick<SharedContext, 'signal'>): Promise<void> {
  await Promise.all(
    moves.map(async (move) => {
      const { target, reference } = move;
      if (!target.isActive) return;
      try {
        await moveTag(move);
      } catch (error) {
        signal.throwIfAborted();
        target.refuse(reference, error);
      }
    }),
  );
  signal.throwIfAborted();
}

/** Moves one tag unless it names the digest already. */
async function moveTag(move: TagMove): Promise<void> {
  if (isMoving(move)) await putTag(move);
  move.target.confirm(move.reference, move.root.digest);
}

/**
 * Puts the root under the tag. Throws BlobUnknownError, RegistryError, or PushError where the tag seems to be
 * immutable.
 */
async function putTag(move: TagMove): Promise<ConfirmedManifest> {
  const { target, reference, root } = move;
  const { repository, signal } = target;
  try {
    return await repository.putManifest(root.bytes, root.mediaType, reference.tag ?? 'latest', signal);
  } catch (error) {
    throw isImmutable(move, error) ? immutable(move, error) : error;
  }
}

/** How registries refuse to move an immutable tag: Harbor by 412, others by 403 or 409. */
const REFUSALS: ReadonlySet<unknown> = new Set([403, 409, 412]);

/** How they say it, also under 400 (ECR: TAG_INVALID; Artifact Registry: "tag immutability") and 405. */
const SAYS_IMMUTABLE = /TAG_INVALID|immutab|\boverwrit|\bprotected tag\b/i;

/** Whether the tag names another image and may be immutable. */
function isImmutable({ before }: TagMove, error: unknown): boolean {
  if (before === undefined || before === 'unknown' || error instanceof BlobUnknownError) return false;
  const { status, message } = error as { status?: unknown; message?: unknown };
  return REFUSALS.has(status) || ((status === 400 || status === 405) && SAYS_IMMUTABLE.test(String(message)));
}

function immutable({ reference, before }: TagMove, error: unknown): PushError {
  const { step, message, remedy } = explain(error, 'Manifest');
  const what = `${formatReference(reference)} names another image, ${nameOf(before)}, and may not be moved: ${message}`;
  // The remedy of a 403 is about credentials, that of a 405 about registries that take no pushes.
  const other = SAYS_IMMUTABLE.test(message) ? undefined : remedy;
  return new PushError(step, what, { remedy: other ?? 'push under a new tag where tags are immutable', cause: error });
}

/**
 * Moves all tags or none, one after the other. When one is refused, those that were moved are put back to what they
 * named before, and the error says which could not be. Throws that error or the signal's reason.
 */
export async function moveAllTags(moves: readonly TagMove[], shared: SharedContext): Promise<void> {
  await readBefore(moves, shared);
  const moved: TagMove[] = [];
  for (const move of moves) {
    try {
      shared.signal.throwIfAborted();
      await moveTag(move);
      moved.push(move);
    } catch (error) {
      const left = await putBack(moved, move, shared);
      for (const { target, reference } of moved) target.withdraw(reference);
      shared.signal.throwIfAborted();
      throw refused(move, error, left);
    }
  }
}

/** Reads what the tags name now, as long as a tag still keeps it there. */
async function readBefore(moves: readonly TagMove[], { documents }: SharedContext): Promise<void> {
  await Promise.all(
    moves.map(async (move) => {
      const { target, before } = move;
      if (before === undefined || before === 'unknown' || !isMoving(move)) return;
      await documents.manifest(target.repository, before.digest, target.signal).catch(() => undefined);
    }),
  );
}

/** Time for putting tags back, also when the push was cancelled. Milliseconds. */
const PUT_BACK_MS = 60_000;

/** Puts tags back, the refused one too if it has moved after all. Resolves to a line for each that could not be. */
async function putBack(moved: readonly TagMove[], refused: TagMove, shared: SharedContext): Promise<string[]> {
  const signal = AbortSignal.timeout(PUT_BACK_MS);
  const lines = await Promise.all(
    [...moved.filter(isMoving), refused].map(async (move) => {
      const name = formatReference(move.reference);
      try {
        if (move === refused && !(await hasMoved(move, signal))) return [];
        await putBackOne(move, shared, signal);
        shared.report({ type: 'info', text: `${name} names ${nameOf(move.before)} again` });
        return [];
      } catch (error) {
        if (move === refused) return [];
        return [`${name} names ${move.root.digest} now and could not be put back: ${explain(error).message}`];
      }
    }),
  );
  return lines.flat();
}

const nameOf = (before: TagBefore): string =>
  before === undefined || before === 'unknown' ? 'nothing' : before.digest;

async function hasMoved({ target: { repository }, reference, root, before }: TagMove, signal: AbortSignal) {
  const now = await repository.headManifest(reference.tag ?? 'latest', signal);
  return now?.digest === root.digest && (before === 'unknown' || before?.digest !== root.digest);
}

async function putBackOne({ target, reference, before }: TagMove, shared: SharedContext, signal: AbortSignal) {
  const { repository } = target;
  const tag = reference.tag ?? 'latest';
  if (before === 'unknown') throw new Error('what it named before is not known');
  if (before === undefined) {
    const deleted = await repository.deleteManifest(tag, signal);
    if (deleted === 'unsupported') throw new Error('it is new, and this registry deletes no tags');
    return;
  }
  const manifest = await shared.documents.manifest(repository, before.digest, signal);
  if (!manifest) throw new Error(`the registry has ${before.digest} no more`);
  await repository.putManifest(manifest.bytes, manifest.descriptor.mediaType, tag, signal);
}

function refused({ reference }: TagMove, error: unknown, left: readonly string[]): PushError {
  const explained = explain(error, 'Manifest');
  const { message, remedy } = explained;
  const name = formatReference(reference);
  const what = message.includes(name) ? message : `${name}: ${stepAndMessage(explained)}`;
  const state = left.length === 0 ? 'no tag has moved' : left.join('; ');
  return new PushError('Push', `${what}; ${state}`, { cause: error, ...(remedy === undefined ? {} : { remedy }) });
}
