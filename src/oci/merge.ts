/** One index out of several images and indexes: which entries it has, in which order. image-index.md. */

import { ImageError } from '../common/error.ts';
import { serialise } from './documents.ts';
import type { ManifestTree } from './image-tree.ts';
import { formatPlatform, platformKey } from './platforms.ts';
import { type Descriptor, type Digest, digestOf, type Index, MediaType } from './types.ts';
import { attestedBy } from './walk.ts';

/** What a part adds to the merged index. */
export interface PartOfIndex {
  /** The reference that it was read under, for messages. */
  readonly text: string;
  /** Of the image or index that was read. */
  readonly root: Digest;
  /** The image itself, or what its index names. */
  readonly entries: readonly Descriptor[];
}

/** Whether an entry of an index is a container image, and not an attestation or another artifact. */
export const isImageEntry = (entry: Descriptor): boolean =>
  entry.platform !== undefined && entry.platform.os !== 'unknown' && attestedBy(entry) === undefined;

/** Each digest once, as its first descriptor has it. */
export function uniqueEntries(entries: readonly Descriptor[]): Descriptor[] {
  const unique = new Map<Digest, Descriptor>();
  for (const entry of entries) if (!unique.has(entry.digest)) unique.set(entry.digest, entry);
  return [...unique.values()];
}

/**
 * The entries of the merged index: images by platform, then what is about them in the order of their images. The same
 * parts have the same order, however they were listed. Throws ImageError where two parts have different images for one
 * platform.
 */
export function mergeEntries(parts: readonly PartOfIndex[]): Descriptor[] {
  const sorted = parts.toSorted((a, b) => compare(a.root, b.root));
  expectOneImageAPlatform(sorted);
  const entries = uniqueEntries(sorted.flatMap((part) => part.entries));
  // Both sorts are stable: images of one platform stay in the order of their part, buildah's gzip before its zstd.
  const images = entries.filter(isImageEntry).sort((a, b) => compare(keyOf(a), keyOf(b)));
  const positions = new Map(images.map(({ digest }, position) => [digest, position]));
  const position = (entry: Descriptor): number => positions.get(attestedBy(entry) ?? entry.digest) ?? images.length;
  const others = entries.filter((entry) => !isImageEntry(entry));
  return [...images, ...others.sort((a, b) => position(a) - position(b))];
}

const compare = (a: string, b: string): number => (a < b ? -1 : Number(a > b));

/** Windows images of one architecture differ by the version of the system. */
function keyOf({ platform }: Descriptor): string {
  if (!platform) return '';
  const features = (platform['os.features'] ?? []).toSorted();
  return [platformKey(platform), platform['os.version'] ?? '', ...features].join(' ');
}

/**
 * One part may have several images for a platform (buildah writes one of gzip and one of zstd layers): then every part
 * has the same.
 */
function expectOneImageAPlatform(parts: readonly PartOfIndex[]): void {
  const seen = new Map<string, { digests: string; text: string }>();
  for (const { text, entries } of parts) {
    for (const [key, images] of Map.groupBy(entries.filter(isImageEntry), keyOf)) {
      const digests = images.map(({ digest }) => digest).sort();
      const other = seen.get(key);
      seen.set(key, { digests: digests.join(', '), text });
      if (!other || other.digests === digests.join(', ')) continue;
      const platform = formatPlatform(images[0]!.platform);
      const what = `${platform} comes twice: ${other.digests} (${other.text}) and ${digests.join(', ')} (${text})`;
      throw new ImageError('Merge', `${what}; no tag has moved`, {
        remedy: "merge one image a platform: tags with the run's ID in them leave out what an earlier run has pushed",
      });
    }
  }
}

/**
 * The merged index above the parts' own manifests. Its keys are in the order of image-index.md: the same parts have the
 * same digest.
 */
export function mergedTree(
  entries: readonly Descriptor[],
  documents: ReadonlyMap<Digest, Buffer>,
  annotations: Readonly<Record<string, string>>,
): ManifestTree {
  const index: Index = {
    schemaVersion: 2,
    mediaType: MediaType.ociIndex,
    manifests: entries,
    ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
  };
  const bytes = serialise(index, 'the merged index');
  const root = { mediaType: MediaType.ociIndex, digest: digestOf(bytes), size: bytes.length };
  return {
    kind: 'manifests',
    root,
    documents: new Map([...documents, [root.digest, bytes]]),
    isVerbatim: true,
    absent: [],
  };
}
