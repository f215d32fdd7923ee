/** One image whose platforms are listed directly in `index.json`. */

import { serialise } from '../../oci/documents.ts';
import { formatPlatform } from '../../oci/platforms.ts';
import { type Descriptor, type Digest, digestOf, type Index, isManifestType, MediaType } from '../../oci/types.ts';
import { attestedBy, walk } from '../../oci/walk.ts';
import { type Candidate, IMAGE_NAMES } from '../choose.ts';

/**
 * The index of images that differ in nothing but their platform: each is a single manifest with a platform of its own,
 * and all have the same names or none. Paketo's buildpacks write such layouts
 * (https://github.com/containers/skopeo/issues/2463), and `crane push --index` pushes them as one index. Attestations
 * of these images come along. Undefined for anything else.
 */
export function indexOfPlatforms(
  index: Index,
  candidates: readonly Candidate<Descriptor>[],
  documents: ReadonlyMap<Digest, Buffer>,
): { readonly descriptor: Descriptor; readonly bytes: Buffer } | undefined {
  const images = candidates.map(({ item }) => withPlatform(item, documents)).filter((image) => image !== undefined);
  const platforms = new Set(images.map(({ platform }) => formatPlatform(platform)));
  const names = new Set(candidates.map((candidate) => [...candidate.names].sort().join()));
  if (images.length !== candidates.length || platforms.size !== images.length || names.size !== 1) return undefined;
  const chosen = new Set(images.map(({ digest }) => digest));
  const attestations = index.manifests.filter((one) => {
    const subject = attestedBy(one);
    return subject !== undefined && chosen.has(subject);
  });
  const manifests = [...images, ...attestations].map(withoutNames);
  const bytes = serialise({ schemaVersion: 2, mediaType: MediaType.ociIndex, manifests }, 'the index of the platforms');
  return { descriptor: { mediaType: MediaType.ociIndex, digest: digestOf(bytes), size: bytes.length }, bytes };
}

/**
 * The descriptor of an image's manifest with the image's platform, from the config where `index.json` does not say it.
 */
function withPlatform(image: Descriptor, documents: ReadonlyMap<Digest, Buffer>): Descriptor | undefined {
  if (!isManifestType(image.mediaType) || !documents.has(image.digest)) return undefined;
  const { manifests } = walk({ kind: 'manifests', root: image, documents, absent: [] });
  const platform = manifests[0]?.platform;
  return platform && manifests[0]?.isImage ? { ...image, platform } : undefined;
}

/** Names belong to the layout, not to the image. */
function withoutNames(descriptor: Descriptor): Descriptor {
  const { annotations, ...rest } = descriptor;
  const kept = Object.entries(annotations ?? {}).filter(([key]) => !IMAGE_NAMES.includes(key));
  return kept.length === 0 ? rest : { ...rest, annotations: Object.fromEntries(kept) };
}
