/** The manifests and indexes that are pushed for an image. */

import { messageOf } from '../common/error.ts';
import { readDocument, serialise } from '../oci/documents.ts';
import type { ImageTree } from '../oci/image-tree.ts';
import { composeManifest, rewriteTree } from '../oci/rewrite.ts';
import { type Descriptor, type Digest, digestOf, type Index, MediaType } from '../oci/types.ts';
import { type TreeWalk, walk } from '../oci/walk.ts';
import type { FetchedManifest } from '../registry/manifests.ts';
import type { Report } from './events.ts';
import type { TargetRepository } from './target-repository.ts';

/** One manifest or index, ready to be put. */
export interface Document {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

/**
 * The documents of an image in the order to put them: children before parents, referrers after the root, which the tags
 * name.
 */
export interface Documents {
  readonly all: readonly Document[];
  readonly root: Document;
  /** Those of them that refer to another manifest (`subject`), by their digests. */
  readonly referrers: ReadonlyMap<Digest, Referrer>;
}

/**
 * The documents that are pushed: a manifest for an image that has none, the image's own byte for byte when all
 * of its layers came compressed, and rewritten ones where plain layers were compressed. `compressed` maps diffIDs;
 * `annotations` are for a manifest that is composed.
 */
export function documentsOf(
  tree: ImageTree,
  compressed: ReadonlyMap<Digest, Descriptor>,
  annotations: Readonly<Record<string, string>> = {},
): Documents {
  if (tree.kind === 'composed') {
    const config = { mediaType: MediaType.ociConfig, digest: digestOf(tree.config), size: tree.config.length };
    const bytes = composeManifest(
      config,
      tree.diffIds.map((diffId) => descriptorOf(compressed, diffId)),
      annotations,
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

// The lists of referrers of a registry without a referrers API: indexes under tags that are made of their subjects'
// digests. distribution-spec, sections "Pushing Manifests with Subject" and "Unavailable Referrers API".

/** A manifest that speaks about another one (`subject`), as a list of referrers names it. */
export interface Referrer {
  readonly subject: Digest;
  readonly descriptor: Descriptor;
}

const EMPTY: Index = { schemaVersion: 2, mediaType: MediaType.ociIndex, manifests: [] };

/**
 * The tag of the list of a digest's referrers. distribution-spec, "Referrers Tag Schema": a sha256 digest is short
 * enough for it.
 */
export const referrersTag = (subject: Digest): string => subject.replace(':', '-');

/** The documents of a tree that have a subject, by their digests. */
function referrersOf({ manifests, indexes }: TreeWalk): ReadonlyMap<Digest, Referrer> {
  const documents = [
    ...manifests.map(({ descriptor, manifest }) => ({
      descriptor,
      said: manifest,
      otherwise: manifest.config.mediaType,
    })),
    ...indexes.map(({ descriptor, index }) => ({ descriptor, said: index, otherwise: undefined })),
  ];
  const referrers = new Map<Digest, Referrer>();
  for (const { descriptor, said, otherwise } of documents) {
    if (!said.subject) continue;
    const { mediaType, digest, size } = descriptor;
    const artifactType = said.artifactType || otherwise;
    const { annotations } = said;
    const listed = {
      mediaType,
      digest,
      size,
      ...(artifactType && { artifactType }),
      ...(annotations && { annotations }),
    };
    referrers.set(digest, { subject: said.subject.digest, descriptor: listed });
  }
  return referrers;
}

/**
 * Enters manifests that the registry has into the lists of what they speak about. One that can't be entered is a
 * warning, no failure: all that was to be pushed is there. Throws only when the repository has failed or the push has
 * ended.
 */
export async function listReferrers(
  target: TargetRepository,
  referrers: readonly Referrer[],
  report: Report,
): Promise<void> {
  for (const [subject, speaking] of Map.groupBy(referrers, (referrer) => referrer.subject)) {
    const tag = referrersTag(subject);
    const list = `${target.name}:${tag}`;
    try {
      const entered = await enter(target, tag, speaking);
      report({
        type: 'debug',
        text: `There is no referrers API: ${entered} of ${speaking.length} referrers entered into ${list}`,
      });
    } catch (error) {
      target.signal.throwIfAborted();
      const why = messageOf(error);
      report({
        type: 'warning',
        text: `The registry has no referrers API, and ${list}, which lists the referrers of ${subject} instead, was not brought up to date: ${why}`,
      });
    }
  }
}

/** Adds to a list what is not in it. Returns the number of entries added; puts nothing when there is none. */
async function enter(
  { repository, signal }: TargetRepository,
  tag: string,
  referrers: readonly Referrer[],
): Promise<number> {
  const found = await repository.getManifest(tag, signal);
  const list = found ? readList(found, tag) : EMPTY;
  const listed = new Set(list.manifests.map(({ digest }) => digest));
  const added = referrers.map(({ descriptor }) => descriptor).filter(({ digest }) => !listed.has(digest));
  if (added.length === 0) return 0;
  const bytes = serialise({ ...list, manifests: [...list.manifests, ...added] }, tag);
  await repository.putManifest(bytes, MediaType.ociIndex, tag, signal);
  return added.length;
}

/** What a tag names, if it is a list. Throws Error for anything else, which stays as it is. */
function readList({ bytes, descriptor }: FetchedManifest, tag: string): Index {
  const document = readDocument(bytes, `the manifest under ${tag}`, descriptor.mediaType);
  if (document.kind === 'index' && descriptor.mediaType === MediaType.ociIndex) return document.index;
  throw new Error(`the tag names a ${descriptor.mediaType}, and no OCI image index`);
}
