/** Puts the manifests of images by digest, from the leaves up, in every repository; only then tags move (tags.ts). */

import { type Digest, type Index, isIndexType } from '../oci/types.ts';
import { BlobUnknownError, type ConfirmedManifest } from '../registry/manifests.ts';
import type { Report } from './events.ts';
import type { Document, Documents } from './image-manifests.ts';
import { listReferrers, type Referrer } from './referrers.ts';
import { putTag, type TagMove } from './tags.ts';
import type { TargetRepository } from './target-repository.ts';

/** What is put into one repository. */
export interface ManifestPut {
  readonly target: TargetRepository;
  readonly documents: Documents;
  /** The tag to put the root under at once, where no other repository or tag must wait for it; by its digest without one. */
  readonly tag?: TagMove | undefined;
  /** The registry has the root and all that it names: only what refers to it is put. */
  readonly hasRoot?: boolean;
}

/** Blobs that repositories say they lack, when a manifest that names them comes. */
export type Denied = ReadonlyMap<TargetRepository, readonly Digest[]>;

/**
 * Puts documents into their repositories, all at once. A repository that refuses them fails alone; digests that repositories say
 * they lack are returned, so that those blobs can be sent again. Throws the signal's reason.
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

/** Puts the documents level by level, those of a level at once; then lists referrers where the registry does not do it. */
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
