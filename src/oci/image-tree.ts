/** What an image is made of, as its source has it: a config with layers, or manifests of its own. */

import { ImageError } from '../common/error.ts';
import { describeDocument, isDocumentEntry, MAX_DEPTH, MAX_MANIFESTS, readDocument, readSubject } from './documents.ts';
import type { Descriptor, Digest } from './types.ts';

/** What an image is made of. */
export type ImageTree = ComposedImage | ManifestTree;

/** An image without a manifest of its own (classic stores, docker-archive): the push makes one. */
interface ComposedImage {
  readonly kind: 'composed';
  /** The config's own bytes. */
  readonly config: Buffer;
  readonly diffIds: readonly Digest[];
}

/** An image with manifests of its own, kept byte for byte. */
export interface ManifestTree {
  readonly kind: 'manifests';
  readonly root: Descriptor;
  /** Every document and small blob that is known, by digest, verified: indexes, manifests, configs, attestations. */
  readonly documents: ReadonlyMap<Digest, Buffer>;
  /**
   * Whether its manifests go as they are whatever their layers are: an image that is promoted from a registry keeps its
   * digest.
   */
  readonly isVerbatim?: boolean;
  /** Layers of container images that come in another compression are compressed again in this one. */
  readonly recompress?: 'gzip' | 'zstd' | undefined;
  /** Manifests that an index names and the source does not have: platforms that were never pulled. */
  readonly absent: readonly Descriptor[];
  /**
   * Manifests beside the root that speak about a part of it (`subject`): signatures, bills of materials. Put after it.
   */
  readonly referrers?: readonly Descriptor[];
}

/** A tree, and the documents (configs too) that it names and that are not among those given. */
interface BuiltTree {
  readonly tree: ManifestTree;
  readonly missing: readonly Descriptor[];
}

/**
 * The tree below a root, from verified documents. A manifest that an index names and that is not there becomes
 * `absent`; the same map of documents stays in the tree, so that one that still grows is seen to grow. Undefined when
 * the root itself is not there. Throws ImageError for documents that can't be used.
 */
export function buildTree(root: Descriptor | Digest, documents: ReadonlyMap<Digest, Buffer>): BuiltTree | undefined {
  const digest = typeof root === 'string' ? root : root.digest;
  const bytes = documents.get(digest);
  if (!bytes) return undefined;
  const read = readDocument(bytes, `the manifest ${digest}`, typeof root === 'string' ? undefined : root.mediaType);
  if (read.kind !== 'index' && read.kind !== 'manifest') {
    throw new ImageError('Manifest', `${digest} is neither an image manifest nor an index`);
  }
  const descriptor = typeof root === 'string' ? describeDocument(bytes, read) : root;
  const builder = new Builder(documents);
  builder.visit(descriptor, 0);
  const { absent, configs } = builder;
  return { tree: { kind: 'manifests', root: descriptor, documents, absent }, missing: [...absent, ...configs] };
}

/**
 * The tree without some manifests below its root, as if they had never been pulled: for platforms whose blobs are not
 * there.
 */
export function withoutManifests(tree: ManifestTree, digests: ReadonlySet<Digest>): ManifestTree {
  const documents = new Map([...tree.documents].filter(([digest]) => !digests.has(digest)));
  return buildTree(tree.root, documents)?.tree ?? tree;
}

/**
 * The tree with the manifests that speak about a part of it (`subject`), to be put after it. distribution-spec,
 * "Listing Referrers".
 */
export function withReferrers(tree: ManifestTree, candidates: readonly Descriptor[]): ManifestTree {
  const known = new Set<Digest>(named(tree));
  const speaking = candidates.map((candidate) => ({ candidate, subject: subjectOf(candidate, tree.documents) }));
  const referrers: Descriptor[] = [];
  // A signature may be about a bill of materials that is about the image: go on until nothing new is reached.
  for (let before = -1; before !== referrers.length; ) {
    before = referrers.length;
    for (const { candidate, subject } of speaking) {
      if (subject === undefined || !known.has(subject) || known.has(candidate.digest)) continue;
      known.add(candidate.digest);
      referrers.push(candidate);
    }
  }
  return referrers.length === 0 ? tree : { ...tree, referrers };
}

function subjectOf(descriptor: Descriptor, documents: ReadonlyMap<Digest, Buffer>): Digest | undefined {
  const bytes = documents.get(descriptor.digest);
  return bytes && readSubject(bytes, descriptor);
}

function named(tree: ManifestTree): Iterable<Digest> {
  const builder = new Builder(tree.documents);
  builder.visit(tree.root, 0);
  return builder.seen;
}

class Builder {
  readonly absent: Descriptor[] = [];
  /** Configs that are named and not among the documents. */
  readonly configs: Descriptor[] = [];
  readonly seen = new Set<Digest>();
  readonly #documents: ReadonlyMap<Digest, Buffer>;

  constructor(documents: ReadonlyMap<Digest, Buffer>) {
    this.#documents = documents;
  }

  visit(descriptor: Descriptor, depth: number): void {
    if (this.seen.has(descriptor.digest)) return;
    this.seen.add(descriptor.digest);
    if (depth > MAX_DEPTH) throw new ImageError('Manifest', `the image nests indexes more than ${MAX_DEPTH} deep`);
    if (this.seen.size > MAX_MANIFESTS)
      throw new ImageError('Manifest', `the image has more than ${MAX_MANIFESTS} manifests`);
    const bytes = this.#documents.get(descriptor.digest);
    if (depth > 0 && !isDocumentEntry(descriptor, bytes)) return;
    if (!bytes) {
      this.absent.push(descriptor);
      return;
    }
    const read = readDocument(bytes, `the manifest ${descriptor.digest}`, descriptor.mediaType);
    if (read.kind === 'index') for (const child of read.index.manifests) this.visit(child, depth + 1);
    if (read.kind === 'manifest' && !this.#documents.has(read.manifest.config.digest))
      this.configs.push(read.manifest.config);
  }
}
