import { MAX_DEPTH, MAX_MANIFESTS, readDocument } from './documents.ts';
import { ImageError } from './error.ts';
import type { ManifestTree } from './image-tree.ts';
import {
  type Descriptor,
  type Digest,
  type ImageConfig,
  type Index,
  isDigest,
  isForeignLayer,
  isImageConfigType,
  type Manifest,
  type Platform,
} from './types.ts';

/** BuildKit's mark of an attestation in an index: the image manifest that it speaks about. */
export const ATTESTS = 'vnd.docker.reference.digest';

/** A document as it is put to a registry: under `descriptor.digest`, with `descriptor.mediaType`. */
export interface TreeDocument {
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
}

export interface TreeManifest extends TreeDocument {
  readonly manifest: Manifest;
  /** Whether it is a container image's; an artifact's or attestation's layers are nobody's to compress. */
  readonly isImage: boolean;
  /** As its index says, else as its config says where that is at hand. */
  readonly platform: Platform | undefined;
  /** The image manifest that it is an attestation of. */
  readonly attests: Digest | undefined;
}

export interface TreeIndex extends TreeDocument {
  readonly index: Index;
}

export interface TreeWalk {
  readonly root: TreeDocument;
  /** In the order to put them: children before the index that names them, referrers after the root. Each once. */
  readonly documents: readonly TreeDocument[];
  /** The manifests among them, in the order of their indexes. */
  readonly manifests: readonly TreeManifest[];
  readonly indexes: readonly TreeIndex[];
  /** Configs and layers that a registry must have before the documents, each once; foreign layers are not among them. */
  readonly blobs: readonly Descriptor[];
}

/**
 * Reads a tree. Children that are not at hand are left out: they are in `tree.absent`. Throws ImageError when the
 * root is missing or a document can't be used.
 */
export function walk(tree: ManifestTree): TreeWalk {
  const walker = new Walker(tree.documents);
  const root = walker.visit(tree.root, 0);
  if (!root) throw new ImageError('Manifest', `the image's own manifest ${tree.root.digest} is missing`);
  for (const referrer of tree.referrers ?? []) walker.visit(referrer, 0);
  return {
    root,
    documents: walker.documents,
    manifests: walker.manifests,
    indexes: walker.indexes,
    blobs: walker.blobs(),
  };
}

/** Whether a manifest is an attestation in an index, and of what. */
export function attestedBy(descriptor: Descriptor): Digest | undefined {
  const digest = descriptor.annotations?.[ATTESTS];
  return isDigest(digest) ? digest : undefined;
}

/** The platform that an image's config names; undefined when it names none. config.md, Properties. */
export function configPlatform({ architecture, os, variant }: ImageConfig): Platform | undefined {
  if (typeof architecture !== 'string' || typeof os !== 'string') return undefined;
  return { architecture, os, ...(typeof variant === 'string' ? { variant } : {}) };
}

class Walker {
  readonly documents: TreeDocument[] = [];
  readonly manifests: TreeManifest[] = [];
  readonly indexes: TreeIndex[] = [];
  readonly #bytes: ReadonlyMap<Digest, Buffer>;
  readonly #seen = new Map<Digest, TreeDocument>();

  constructor(bytes: ReadonlyMap<Digest, Buffer>) {
    this.#bytes = bytes;
  }

  visit(descriptor: Descriptor, depth: number): TreeDocument | undefined {
    const bytes = this.#bytes.get(descriptor.digest);
    const seen = this.#seen.get(descriptor.digest);
    if (!bytes || seen) return seen;
    if (depth > MAX_DEPTH) throw new ImageError('Manifest', `the image nests indexes more than ${MAX_DEPTH} deep`);
    if (this.#seen.size >= MAX_MANIFESTS)
      throw new ImageError('Manifest', `the image has more than ${MAX_MANIFESTS} manifests`);
    const document: TreeDocument = { descriptor, bytes };
    this.#seen.set(descriptor.digest, document);
    const read = readDocument(bytes, `the manifest ${descriptor.digest}`, descriptor.mediaType);
    if (read.kind === 'index') {
      for (const child of read.index.manifests) this.visit(child, depth + 1);
      this.indexes.push({ ...document, index: read.index });
    } else if (read.kind === 'manifest') {
      this.manifests.push(this.#manifest(document, read.manifest));
    } else {
      throw new ImageError(
        'Manifest',
        `${descriptor.digest} (${descriptor.mediaType}) is neither a manifest nor an index`,
      );
    }
    this.documents.push(document);
    return document;
  }

  blobs(): Descriptor[] {
    const blobs = new Map<Digest, Descriptor>();
    for (const { manifest } of this.manifests) {
      for (const blob of [manifest.config, ...manifest.layers]) {
        if (!isForeignLayer(blob) && !blobs.has(blob.digest)) blobs.set(blob.digest, blob);
      }
    }
    return [...blobs.values()];
  }

  #manifest(document: TreeDocument, manifest: Manifest): TreeManifest {
    const isImage = isImageConfigType(manifest.config.mediaType);
    const attests = attestedBy(document.descriptor);
    const platform = document.descriptor.platform ?? (isImage ? this.#configPlatform(manifest.config) : undefined);
    return { ...document, manifest, isImage, platform, attests };
  }

  #configPlatform(config: Descriptor): Platform | undefined {
    const bytes = this.#bytes.get(config.digest);
    const document = bytes && readDocument(bytes, `the config ${config.digest}`);
    return document?.kind === 'config' ? configPlatform(document.config) : undefined;
  }
}
