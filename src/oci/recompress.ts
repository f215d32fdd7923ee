/** Images whose compressed layers are compressed again in another way: the rest of them stays, only digests change. */

import { type ManifestTree, withReferrers } from './image-tree.ts';
import { filterIndex } from './platforms.ts';
import { type Descriptor, type Digest, isForeignLayer, layerCompression } from './types.ts';
import { isRecompressedLayer, type TreeWalk, walk } from './walk.ts';

/** An image of which some layers are compressed again. */
interface Recompression {
  readonly tree: ManifestTree;
  /** Signatures and attestations of manifests whose digests change: they speak of nothing that is pushed. */
  readonly leftOut: readonly Descriptor[];
}

/**
 * Marks an image to have its layers compressed in this way, whatever they come in, and leaves out what speaks of digests
 * that change by it. The same tree where no layer comes in another compression, or no config tells its diffID. Throws ImageError.
 */
export function recompressed(tree: ManifestTree, compression: 'gzip' | 'zstd'): Recompression {
  const marked: ManifestTree = { ...tree, recompress: compression, isVerbatim: false };
  const walked = walk(marked);
  const changed = changedBy(walked);
  if (changed.size === 0) return { tree, leftOut: [] };
  const speakers = speakersOf(walked, changed);
  const documents = new Map(marked.documents);
  const keep = new Set(walked.documents.map(({ descriptor }) => descriptor.digest).filter((one) => !speakers.has(one)));
  const root = filterIndex(walked, marked.root, keep, documents) ?? marked.root;
  const { referrers = [], ...rest } = marked;
  const left = referrers.filter(({ digest }) => !speakers.has(digest));
  return { tree: withReferrers({ ...rest, root, documents }, left), leftOut: [...speakers.values()] };
}

/** The manifests with a layer that is compressed again, and the indexes above them. */
function changedBy({ manifests, indexes }: TreeWalk): Set<Digest> {
  const images = manifests.filter((one) =>
    one.manifest.layers.some((_, position) => isRecompressedLayer(one, position)),
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
