/**
 * Manifests and indexes when layers are compressed by a push: what is left out, and what of them becomes another one.
 */

import { readDocument, serialise } from './documents.ts';
import { type ManifestTree, withReferrers } from './image-tree.ts';
import { filterIndex } from './platforms.ts';
import {
  type Descriptor,
  type Digest,
  digestOf,
  type Index,
  isForeignLayer,
  isImageConfigType,
  isPlainLayerType,
  layerCompression,
  type Manifest,
  MediaType,
} from './types.ts';
import {
  ATTESTS,
  attestedBy,
  isRecompressedLayer,
  isUncompressedLayer,
  type TreeManifest,
  type TreeWalk,
  walk,
} from './walk.ts';

type Plain = Pick<Descriptor, 'mediaType' | 'digest' | 'size' | 'urls'>;

/**
 * The canonical bytes of an OCI manifest: no white space, no annotations, keys in the order of manifest.md. The same
 * config and layers give the same bytes whichever way the image came.
 */
export function composeManifest(
  config: Descriptor,
  layers: readonly Descriptor[],
  annotations: Readonly<Record<string, string>> = {},
): Buffer {
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MediaType.ociManifest,
      config: plain({ ...config, mediaType: ociType(config.mediaType) }),
      layers: layers.map((layer) => plain({ ...layer, mediaType: ociType(layer.mediaType) })),
      ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
    }),
  );
}

/**
 * Puts the layers that were compressed in the place of those that the tree names, plain ones and those that are
 * compressed again: `replacements` by diffID. Only manifests of container images change, and the indexes above them,
 * digests and attestation marks included; everything else stays byte for byte, and so does a tree in which nothing is
 * replaced. A Docker schema 2 manifest that changes becomes an OCI one: its own types have no name for zstd. What an
 * attestation says inside (its in-toto subject) is signed by its maker and stays.
 */
export function rewriteTree(tree: ManifestTree, replacements: ReadonlyMap<Digest, Descriptor>): ManifestTree {
  const rewriter = new Rewriter(tree, replacements);
  const root = rewriter.rewrite(tree.root);
  const referrers = tree.referrers?.map((referrer) => rewriter.rewrite(referrer));
  if (!rewriter.changed) return tree;
  return { ...tree, root, documents: rewriter.documents, ...(referrers ? { referrers } : {}) };
}

class Rewriter {
  readonly documents: Map<Digest, Buffer>;
  changed = false;
  readonly #replacements: ReadonlyMap<Digest, Descriptor>;
  /** The manifests as they were, by digest. */
  readonly #images: ReadonlyMap<Digest, TreeManifest>;
  /** What became of each document, by its old digest. */
  readonly #done = new Map<Digest, Plain>();

  constructor(tree: ManifestTree, replacements: ReadonlyMap<Digest, Descriptor>) {
    this.documents = new Map(tree.documents);
    this.#replacements = replacements;
    this.#images = new Map(walk(tree).manifests.map((one) => [one.descriptor.digest, one]));
  }

  /** The descriptor as its parent is to name it from now on; the very same object when nothing changed below it. */
  rewrite(descriptor: Descriptor): Descriptor {
    const done = this.#done.get(descriptor.digest) ?? this.#rewriteDocument(descriptor);
    this.#done.set(descriptor.digest, done);
    return done.digest === descriptor.digest ? descriptor : { ...without(descriptor, 'data'), ...done };
  }

  #rewriteDocument(descriptor: Descriptor): Plain {
    const bytes = this.documents.get(descriptor.digest);
    if (!bytes) return descriptor;
    const what = `the manifest ${descriptor.digest}`;
    const read = readDocument(bytes, what, descriptor.mediaType);
    if (read.kind === 'index') return this.#replace(descriptor, this.#index(read.index), what);
    if (read.kind === 'manifest')
      return this.#replace(descriptor, this.#manifest(read.manifest, this.#images.get(descriptor.digest)), what);
    return descriptor;
  }

  #replace(old: Descriptor, document: Manifest | Index | undefined, what: string): Plain {
    if (!document) return old;
    const bytes =
      'layers' in document && isBare(document)
        ? composeManifest(document.config, document.layers)
        : serialise(document, what);
    const digest = digestOf(bytes);
    this.documents.delete(old.digest);
    this.documents.set(digest, bytes);
    this.changed = true;
    return { mediaType: document.mediaType ?? ociType(old.mediaType), digest, size: bytes.length };
  }

  #index(index: Index): Index | undefined {
    const children = index.manifests.map((child) => this.rewrite(child));
    if (children.every((child, position) => child === index.manifests[position])) return undefined;
    const manifests = children.map((child) => this.#follow(child));
    return { ...index, ...(index.mediaType === undefined ? {} : { mediaType: MediaType.ociIndex }), manifests };
  }

  /** An attestation's mark names its image by digest: it goes where the image went. */
  #follow(child: Descriptor): Descriptor {
    const attests = attestedBy(child);
    const now = attests && this.#done.get(attests);
    if (!now || now.digest === attests) return child;
    return { ...child, annotations: { ...child.annotations, [ATTESTS]: now.digest } };
  }

  #manifest(manifest: Manifest, image: TreeManifest | undefined): Manifest | undefined {
    const subject = manifest.subject && this.rewrite(manifest.subject);
    const layers = isImageConfigType(manifest.config.mediaType)
      ? manifest.layers.map((layer, position) => this.#layer(layer, image, position))
      : manifest.layers;
    const sameLayers = layers.every((layer, position) => layer === manifest.layers[position]);
    if (sameLayers && subject === manifest.subject) return undefined;
    const changed = { ...manifest, ...(subject ? { subject } : {}) };
    if (sameLayers) return changed;
    return {
      ...changed,
      ...(manifest.mediaType === undefined ? {} : { mediaType: ociType(manifest.mediaType) }),
      config: { ...manifest.config, mediaType: ociType(manifest.config.mediaType) },
      layers: layers.map((layer) => ({ ...layer, mediaType: ociType(layer.mediaType) })),
    };
  }

  #layer(layer: Descriptor, image: TreeManifest | undefined, position: number): Descriptor {
    const isAgain = image !== undefined && isRecompressedLayer(image, position);
    const diffId = isAgain ? image.diffIds![position]! : layer.digest;
    const replacement = isAgain || isPlainLayerType(layer.mediaType) ? this.#replacements.get(diffId) : undefined;
    if (!replacement) return layer;
    const { mediaType, digest, size } = replacement;
    return { ...withoutToc(without(layer, 'data')), mediaType, digest, size };
  }
}

const OCI_TYPES: ReadonlyMap<string, string> = new Map([
  [MediaType.dockerList, MediaType.ociIndex],
  [MediaType.dockerManifest, MediaType.ociManifest],
  [MediaType.dockerConfig, MediaType.ociConfig],
  [MediaType.dockerLayer, MediaType.ociLayer],
  [MediaType.dockerLayerGzip, MediaType.ociLayerGzip],
  [MediaType.dockerForeignLayer, 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip'],
]);

/** The OCI name of a Docker media type (image-spec media-types.md, "Compatibility Matrix"); any other type as it is. */
const ociType = (mediaType: string): string => OCI_TYPES.get(mediaType) ?? mediaType;

function plain({ mediaType, digest, size, urls }: Descriptor): Plain {
  return { mediaType, digest, size, ...(urls === undefined ? {} : { urls }) };
}

function without(descriptor: Descriptor, key: 'data'): Descriptor {
  const { [key]: _, ...rest } = descriptor;
  return rest;
}

/** What eStargz and zstd:chunked say of the compressed bytes, offsets in them: wrong of any others. */
const TABLE_OF_CONTENTS =
  /^(?:containerd\.io\/snapshot\/stargz\/|io\.containers\.estargz\.|io\.github\.containers\.zstd-chunked\.)/;

function withoutToc(descriptor: Descriptor): Descriptor {
  const { annotations, ...rest } = descriptor;
  if (!annotations) return descriptor;
  const kept = Object.entries(annotations).filter(([key]) => !TABLE_OF_CONTENTS.test(key));
  return kept.length === 0 ? rest : { ...rest, annotations: Object.fromEntries(kept) };
}

const BARE_MANIFEST: ReadonlySet<string> = new Set(['schemaVersion', 'mediaType', 'config', 'layers']);
const BARE_DESCRIPTOR: ReadonlySet<string> = new Set(['mediaType', 'digest', 'size', 'urls']);

/** Whether a manifest says nothing that the canonical manifest would leave out. */
function isBare(manifest: Manifest): boolean {
  const only = (value: object, keys: ReadonlySet<string>) => Object.keys(value).every((key) => keys.has(key));
  return (
    only(manifest, BARE_MANIFEST) && [manifest.config, ...manifest.layers].every((one) => only(one, BARE_DESCRIPTOR))
  );
}

// Images whose compressed layers are compressed again in another way: the rest of them stays, only digests change.

/** An image of which some layers are compressed again. */
interface Recompression {
  readonly tree: ManifestTree;
  /** Signatures and attestations of manifests whose digests change: they speak of nothing that is pushed. */
  readonly leftOut: readonly Descriptor[];
  /** Manifests of images with layers that stay in another compression: no config tells the diffIDs of them. */
  readonly unpaired: readonly Descriptor[];
}

/**
 * Marks an image to have its layers compressed in this way, whatever they come in, and leaves out what speaks of
 * digests that change by it. The same tree where no layer comes in another compression, or no config tells its diffID.
 * Throws ImageError.
 */
export function recompressed(tree: ManifestTree, compression: 'gzip' | 'zstd'): Recompression {
  const marked: ManifestTree = { ...tree, recompress: compression, isVerbatim: false };
  const walked = walk(marked);
  const changed = changedBy(walked, tree.isVerbatim === true);
  const unpaired = walked.manifests.filter(hasUnpairedLayer).map(({ descriptor }) => descriptor);
  if (changed.size === 0) return { tree, leftOut: [], unpaired };
  const speakers = speakersOf(walked, changed);
  const documents = new Map(marked.documents);
  const entries = [
    ...walked.documents.map(({ descriptor }) => descriptor),
    ...walked.indexes.flatMap((one) => one.blobs),
  ];
  const keep = new Set(entries.map(({ digest }) => digest).filter((one) => !speakers.has(one)));
  const root = filterIndex(walked, marked.root, keep, documents) ?? marked.root;
  const { referrers = [], ...rest } = marked;
  const left = referrers.filter(({ digest }) => !speakers.has(digest));
  return { tree: withReferrers({ ...rest, root, documents }, left), leftOut: [...speakers.values()], unpaired };
}

/** Whether a manifest has layers in another compression that can't be compressed again. */
const hasUnpairedLayer = (one: TreeManifest): boolean =>
  one.attests === undefined &&
  one.manifest.layers.some(({ mediaType }, position) => {
    const compression = layerCompression(mediaType);
    return compression !== undefined && compression !== one.recompress && !isRecompressedLayer(one, position);
  });

/**
 * The manifests with a layer that is compressed again, and the indexes above them; with `plainToo` also those with a
 * plain layer.
 */
function changedBy({ manifests, indexes }: TreeWalk, plainToo: boolean): Set<Digest> {
  const images = manifests.filter((one) =>
    one.manifest.layers.some((_, at) => isRecompressedLayer(one, at) || (plainToo && isUncompressedLayer(one, at))),
  );
  const changed = new Set(images.map(({ descriptor }) => descriptor.digest));
  // Children come before the indexes that name them.
  for (const { descriptor, index } of indexes)
    if (index.manifests.some(({ digest }) => changed.has(digest))) changed.add(descriptor.digest);
  return changed;
}

/** What speaks of a manifest that changes, or of something that is left out itself. */
function speakersOf({ manifests, indexes }: TreeWalk, changed: ReadonlySet<Digest>): Map<Digest, Descriptor> {
  const speaking = [
    ...manifests.map(({ descriptor, manifest, attests }) => ({ descriptor, of: [attests, manifest.subject?.digest] })),
    ...indexes.map(({ descriptor, index }) => ({ descriptor, of: [index.subject?.digest] })),
  ];
  const left = new Map<Digest, Descriptor>();
  const isGone = (digest: Digest | undefined) => digest !== undefined && (changed.has(digest) || left.has(digest));
  for (let before = -1; before !== left.size; ) {
    before = left.size;
    for (const { descriptor, of } of speaking) if (of.some(isGone)) left.set(descriptor.digest, descriptor);
  }
  return left;
}

/** The compressions that the layers of an image's container images come in; foreign layers are not among them. */
export function compressionsOf(tree: ManifestTree): ReadonlySet<'gzip' | 'zstd' | undefined> {
  const images = walk(tree).manifests.filter(({ isImage, attests }) => isImage && attests === undefined);
  const layers = images.flatMap(({ manifest }) => manifest.layers).filter((layer) => !isForeignLayer(layer));
  return new Set(layers.map(({ mediaType }) => layerCompression(mediaType)));
}
