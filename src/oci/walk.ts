import { ImageError } from '../common/error.ts';
import { isDocumentEntry, isJson, MAX_DEPTH, MAX_MANIFESTS, readDocument } from './documents.ts';
import type { ManifestTree } from './image-tree.ts';
import {
  type Descriptor,
  type Digest,
  type ImageConfig,
  type Index,
  isDigest,
  isForeignLayer,
  isImageConfigType,
  isPlainLayerType,
  layerCompression,
  type Manifest,
  type Platform,
} from './types.ts';

/** BuildKit's mark of an attestation in an index: the image manifest that it speaks about. */
export const ATTESTS = 'vnd.docker.reference.digest';

/** A document as it is put to a registry: under `descriptor.digest`, with `descriptor.mediaType`. */
interface TreeDocument {
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
}

export interface TreeManifest extends TreeDocument {
  readonly manifest: Manifest;
  /** Whether it is a container image's. The layers of an artifact or attestation are never compressed. */
  readonly isImage: boolean;
  /** Whether it goes as it is whatever its layers are: see ManifestTree. */
  readonly isVerbatim: boolean;
  /** The compression that its layers get: see ManifestTree. */
  readonly recompress: 'gzip' | 'zstd' | undefined;
  /**
   * The diffIDs of its layers; undefined where its config is not known, empty where the config pairs none with them.
   */
  readonly diffIds: readonly Digest[] | undefined;
  /** As its index says, else as its config says where that is known. */
  readonly platform: Platform | undefined;
  /** The image manifest that it is an attestation of. */
  readonly attests: Digest | undefined;
}

interface TreeIndex extends TreeDocument {
  readonly index: Index;
  /** Its entries that are neither manifests nor indexes. */
  readonly blobs: readonly Descriptor[];
}

export interface TreeWalk {
  readonly root: TreeDocument;
  /** In the order to put them: children before the index that names them, referrers after the root. Each once. */
  readonly documents: readonly TreeDocument[];
  /** The manifests among them, in the order of their indexes. */
  readonly manifests: readonly TreeManifest[];
  readonly indexes: readonly TreeIndex[];
  /**
   * Configs, layers and blobs in indexes that a registry must have before the documents, each once; foreign layers are
   * not among them.
   */
  readonly blobs: readonly Descriptor[];
}

/**
 * Reads a tree. Children whose bytes are not known are left out: they are in `tree.absent`. Throws ImageError when the
 * root is missing or a document can't be used.
 */
export function walk(tree: ManifestTree): TreeWalk {
  const walker = new Walker(tree);
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
export function configPlatform(config: ImageConfig): Platform | undefined {
  const { architecture, os, variant, 'os.version': version, 'os.features': features } = config;
  if (typeof architecture !== 'string' || typeof os !== 'string') return undefined;
  return {
    architecture,
    os,
    ...(typeof variant === 'string' && variant !== '' ? { variant } : {}),
    ...(typeof version === 'string' && version !== '' ? { 'os.version': version } : {}),
    ...(Array.isArray(features) && features.length > 0 ? { 'os.features': features } : {}),
  };
}

/**
 * The config of a manifest's image: undefined where it is not known, null where the manifest is no image's. Artifacts
 * may carry the media type of an image's config over `{}` or no byte at all (oras before 1.0, policies, charts).
 */
function configOf(manifest: Manifest, documents: ReadonlyMap<Digest, Buffer>): ImageConfig | null | undefined {
  const { digest, mediaType } = manifest.config;
  if (!isImageConfigType(mediaType)) return null;
  const bytes = documents.get(digest);
  if (!bytes) return undefined;
  if (!isJson(bytes)) return null;
  const document = readDocument(bytes, `the config ${digest}`);
  return document.kind === 'config' ? document.config : null;
}

/**
 * The diffIDs that an image's config pairs with the layers of its manifest: one for each, or none. config.md, `rootfs`.
 */
function diffIdsOf({ rootfs: { diff_ids: diffIds } }: ImageConfig, { layers }: Manifest): readonly Digest[] {
  return diffIds.length === layers.length ? diffIds : [];
}

/**
 * Whether a layer of a manifest is an uncompressed tar, which a push compresses: its media type says so, and its digest
 * is the diffID that the config has for it. A media type alone is no proof: buildah wrote gzip bytes as `.tar`
 * (https://github.com/containers/buildah/issues/2374); such a layer is pushed byte for byte, as skopeo does.
 */
export function isUncompressedLayer(image: TreeManifest, position: number): boolean {
  const { manifest, isImage, isVerbatim, diffIds } = image;
  const layer = manifest.layers[position]!;
  if (!isImage || isVerbatim || !isPlainLayerType(layer.mediaType)) return false;
  return diffIds === undefined || diffIds[position] === layer.digest;
}

/**
 * Whether a layer of a manifest comes compressed and is compressed again in another way. Only where the image's config
 * says what its plain bytes are (diffID).
 */
export function isRecompressedLayer(image: TreeManifest, position: number): boolean {
  const { manifest, isImage, recompress, diffIds } = image;
  const compression = layerCompression(manifest.layers[position]!.mediaType);
  if (!isImage || recompress === undefined || compression === undefined) return false;
  return compression !== recompress && diffIds?.[position] !== undefined;
}

class Walker {
  readonly documents: TreeDocument[] = [];
  readonly manifests: TreeManifest[] = [];
  readonly indexes: TreeIndex[] = [];
  readonly #bytes: ReadonlyMap<Digest, Buffer>;
  readonly #isVerbatim: boolean;
  readonly #recompress: 'gzip' | 'zstd' | undefined;
  readonly #seen = new Map<Digest, TreeDocument>();

  constructor({ documents, isVerbatim = false, recompress }: ManifestTree) {
    this.#bytes = documents;
    this.#isVerbatim = isVerbatim;
    this.#recompress = recompress;
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
      const blobs = read.index.manifests.filter((child) => !isDocumentEntry(child, this.#bytes.get(child.digest)));
      for (const child of read.index.manifests) if (!blobs.includes(child)) this.visit(child, depth + 1);
      this.indexes.push({ ...document, index: read.index, blobs });
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
    const inManifests = this.manifests.flatMap(({ manifest }) => [manifest.config, ...manifest.layers]);
    const named = [...inManifests, ...this.indexes.flatMap((one) => one.blobs)];
    const blobs = new Map<Digest, Descriptor>();
    for (const blob of named) if (!isForeignLayer(blob) && !blobs.has(blob.digest)) blobs.set(blob.digest, blob);
    return [...blobs.values()];
  }

  #manifest(document: TreeDocument, manifest: Manifest): TreeManifest {
    const config = configOf(manifest, this.#bytes);
    const attests = attestedBy(document.descriptor);
    const platform = document.descriptor.platform ?? (config ? configPlatform(config) : undefined);
    const isImage = isImageConfigType(manifest.config.mediaType) && config !== null;
    const diffIds = config === undefined ? undefined : config ? diffIdsOf(config, manifest) : [];
    const becomes = { isVerbatim: this.#isVerbatim, recompress: this.#recompress };
    return { ...document, ...becomes, manifest, isImage, diffIds, platform, attests };
  }
}
