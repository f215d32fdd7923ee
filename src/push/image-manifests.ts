/** The manifests and indexes that are pushed for an image. */

import type { ImageTree } from '../oci/image-tree.ts';
import { composeManifest, rewriteTree } from '../oci/rewrite.ts';
import { type Descriptor, type Digest, digestOf, MediaType } from '../oci/types.ts';
import { walk } from '../oci/walk.ts';
import { type Referrer, referrersOf } from './referrers.ts';

/** One manifest or index, ready to be put. */
export interface Document {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

/** The documents of an image in the order to put them: children before parents, referrers after the root, which the tags name. */
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
