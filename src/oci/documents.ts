import { ImageError } from '../common/error.ts';
import {
  type Descriptor,
  type Digest,
  digestOf,
  type ImageConfig,
  type Index,
  isDigest,
  isDocumentType,
  isIndexType,
  isManifestType,
  type Manifest,
  MediaType,
} from './types.ts';

/** A document by what is in it: manifests may lack `mediaType`, and configs have none. */
type Document =
  | { readonly kind: 'index'; readonly index: Index }
  | { readonly kind: 'manifest'; readonly manifest: Manifest }
  | { readonly kind: 'config'; readonly config: ImageConfig }
  | { readonly kind: 'other' };

type Fields = Readonly<Record<string, unknown>>;

/** Whether a value of JSON is an object. */
export const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** JSON from bytes. Throws ImageError that names `what`. */
export function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new ImageError('Manifest', `${what} is not JSON`, { cause });
  }
}

/** Whether bytes are JSON. */
export function isJson(bytes: Buffer): boolean {
  try {
    JSON.parse(bytes.toString('utf8'));
    return true;
  } catch {
    return false;
  }
}

/** Bytes from JSON. Throws ImageError when a hostile document is nested deeper than the stack. */
export function serialise(value: unknown, what: string): Buffer {
  try {
    return Buffer.from(JSON.stringify(value));
  } catch (cause) {
    throw new ImageError('Manifest', `${what} can't be written as JSON`, { cause });
  }
}

/**
 * Reads a document and says what it is. `mediaType` is what its descriptor claims, and must agree with the content
 * (image-spec manifest.md and image-index.md: a client must check; a document that is both is an attack,
 * CVE-2021-41190). Throws ImageError when a manifest or index has a field that can't be used.
 */
export function readDocument(bytes: Uint8Array, what: string, mediaType?: string): Document {
  const value = parseJson(bytes, what);
  if (!isFields(value)) return { kind: 'other' };
  if (value.schemaVersion === 1 && Array.isArray(value.fsLayers)) throw schema1Error(what, value.schemaVersion);
  const claimed = typeof value.mediaType === 'string' ? value.mediaType : mediaType;
  const kind = kindOf(value, claimed);
  if (kind !== 'other' && kind !== 'config') checkClaims(value, kind, mediaType, what);
  if (kind === 'index') return { kind, index: checkedIndex(value, what) };
  if (kind === 'manifest') return { kind, manifest: checkedManifest(value, what) };
  if (kind === 'config') return { kind, config: checkedConfig(value, what) };
  return { kind };
}

/**
 * Whether an entry of an index is a manifest or an index: by its media type, or by its content where that is known.
 * Throws ImageError.
 */
export function isDocumentEntry({ digest, mediaType }: Descriptor, bytes: Buffer | undefined): boolean {
  if (isDocumentType(mediaType)) return true;
  if (!bytes || !isJson(bytes)) return false;
  return ['manifest', 'index'].includes(readDocument(bytes, `the entry ${digest}`).kind);
}

/** Reads a document that must be an image's config. Throws ImageError. */
export function readConfig(bytes: Uint8Array, what: string): ImageConfig {
  const document = readDocument(bytes, what);
  if (document.kind !== 'config') throw new ImageError('Manifest', `${what} is not the config of an image: no rootfs`);
  return document.config;
}

/** The diffIDs that an image's config names, from the base layer up (config.md, `rootfs`). Throws ImageError. */
export const readDiffIds = (config: Uint8Array, what: string): readonly Digest[] =>
  readConfig(config, what).rootfs.diff_ids;

/**
 * The manifest that a manifest or index is about (`subject`), from its bytes; undefined for all others. Throws
 * ImageError.
 */
export function readSubject(bytes: Uint8Array, { digest, mediaType }: Descriptor): Digest | undefined {
  const document = readDocument(bytes, `the manifest ${digest}`, mediaType);
  if (document.kind === 'manifest') return document.manifest.subject?.digest;
  return document.kind === 'index' ? document.index.subject?.digest : undefined;
}

/** Throws ImageError for a document that is too long to be kept in memory. `size`: bytes. */
export function expectDocumentSize(size: number, what: string): void {
  if (size <= MAX_DOCUMENT_BYTES) return;
  throw new ImageError(
    'Archive',
    `${what} has ${size} bytes, more than the ${MAX_DOCUMENT_BYTES} of any real document`,
  );
}

/**
 * The descriptor of a manifest or index whose bytes are known, its media type as it says itself, else as its kind has
 * it.
 */
export function describeDocument(bytes: Buffer, document: Document): Descriptor {
  const own = document.kind === 'index' ? document.index : document.kind === 'manifest' ? document.manifest : undefined;
  const mediaType = own?.mediaType ?? (document.kind === 'index' ? MediaType.ociIndex : MediaType.ociManifest);
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}

/** Throws ImageError unless these are the very bytes that a descriptor names (descriptor.md, section Verification). */
export function verifyDocument(bytes: Buffer, expected: { digest: Digest; size?: number }, what: string): void {
  const digest = digestOf(bytes);
  if (digest !== expected.digest) {
    throw new ImageError(
      'Manifest',
      `${what} is damaged: its bytes have the digest ${digest} instead of ${expected.digest}`,
    );
  }
  if (expected.size !== undefined && expected.size !== bytes.length) {
    throw new ImageError('Manifest', `${what} has ${bytes.length} bytes where its descriptor says ${expected.size}`);
  }
}

function kindOf(value: Fields, mediaType: string | undefined): Document['kind'] {
  if (mediaType !== undefined && isIndexType(mediaType)) return 'index';
  if (mediaType !== undefined && isManifestType(mediaType)) return 'manifest';
  if (value.schemaVersion === 2 && Array.isArray(value.manifests)) return 'index';
  if (value.schemaVersion === 2 && isFields(value.config)) return 'manifest';
  if (isFields(value.rootfs)) return 'config';
  return 'other';
}

function checkClaims(value: Fields, kind: 'index' | 'manifest', mediaType: string | undefined, what: string): void {
  if (value.schemaVersion !== 2) throw schema1Error(what, value.schemaVersion);
  const isIndex = mediaType === undefined ? kind === 'index' : isIndexType(mediaType);
  const both = Array.isArray(value.manifests) && (value.config !== undefined || Array.isArray(value.layers));
  const known = mediaType === undefined || isIndexType(mediaType) || isManifestType(mediaType);
  if (both || (known && isIndex !== (kind === 'index'))) {
    throw new ImageError(
      'Manifest',
      `${what} is ambiguous: its content says ${kind}, its descriptor ${mediaType ?? 'nothing'}`,
    );
  }
}

/** The error for a manifest of schema 1, the format before image configs were blobs. */
export const schema1Error = (what: string, schemaVersion: unknown): ImageError =>
  new ImageError('Manifest', `${what} has schemaVersion ${shown(schemaVersion)} instead of 2`, {
    remedy:
      'registries no longer accept schema 1: pull the image with a current engine that converts it (podman), or with skopeo copy --format v2s2, and push that',
  });

function checkedIndex(value: Fields, what: string): Index {
  const manifests = checkedList(value.manifests, `the manifests of ${what}`);
  for (const [position, child] of manifests.entries()) checkDescriptor(child, `manifest ${position} of ${what}`);
  checkSubject(value, what);
  return { ...value, manifests } as unknown as Index;
}

function checkedManifest(value: Fields, what: string): Manifest {
  checkDescriptor(value.config, `the config of ${what}`);
  const layers = checkedList(value.layers, `the layers of ${what}`);
  for (const [position, layer] of layers.entries()) checkDescriptor(layer, `layer ${position} of ${what}`);
  checkSubject(value, what);
  return { ...value, layers } as unknown as Manifest;
}

function checkSubject({ subject }: Fields, what: string): void {
  if (subject !== undefined && subject !== null) checkDescriptor(subject, `the subject of ${what}`);
}

function checkedConfig(value: Fields, what: string): ImageConfig {
  const rootfs = value.rootfs as Fields;
  const ids = checkedList(rootfs.diff_ids, `rootfs.diff_ids of ${what}`);
  const wrong = ids.find((id) => !isDigest(id));
  if (wrong !== undefined) {
    throw new ImageError('Manifest', `${what} names a diffID that is no sha256 digest: ${shown(wrong)}`);
  }
  return { ...value, rootfs: { type: 'layers', diff_ids: ids as Digest[] } } as ImageConfig;
}

/**
 * A list. An empty one may be `null` or absent: Go writes a nil slice so, and skopeo and registries accept it
 * (https://github.com/opencontainers/image-spec/issues/1013, an image FROM scratch:
 * https://github.com/moby/moby/issues/27568).
 */
function checkedList(value: unknown, what: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new ImageError('Manifest', `${what}: a list is missing there`);
  if (value.length > MAX_MANIFESTS) {
    throw new ImageError(
      'Manifest',
      `${what}: ${value.length} entries, more than the ${MAX_MANIFESTS} of any real image`,
    );
  }
  return value;
}

/** Throws an ImageError that names the document and this problem. */
type Wrong = (problem: string) => never;

/** Throws ImageError unless a value can be used as a descriptor. descriptor.md, section Properties. */
function checkDescriptor(value: unknown, what: string): asserts value is Descriptor {
  const wrong: Wrong = (problem) => {
    throw new ImageError('Manifest', `${what} is no descriptor: ${problem}`);
  };
  if (!isFields(value)) wrong('no object');
  if (typeof value.mediaType !== 'string' || value.mediaType === '') wrong('mediaType is missing');
  if (!isDigest(value.digest)) wrong(`its digest ${shown(value.digest)} is not sha256: and 64 hex digits`);
  if (!Number.isSafeInteger(value.size) || (value.size as number) < 0)
    wrong(`its size ${shown(value.size)} is no number of bytes`);
  if (value.annotations !== undefined && value.annotations !== null) checkAnnotations(value.annotations, wrong);
  if (value.platform !== undefined && value.platform !== null) checkPlatform(value.platform, wrong);
  if (value.urls !== undefined && value.urls !== null && !Array.isArray(value.urls)) wrong('its urls are no list');
}

function checkAnnotations(value: unknown, wrong: Wrong): void {
  if (!isFields(value) || Object.values(value).some((text) => typeof text !== 'string'))
    wrong('its annotations are no texts');
}

function checkPlatform(value: unknown, wrong: Wrong): void {
  if (!isFields(value)) wrong('its platform is no object');
  for (const key of ['os', 'architecture', 'variant']) {
    if (value[key] !== undefined && typeof value[key] !== 'string') wrong(`the ${key} of its platform is no text`);
  }
}

/** A value of unknown origin for a message: short, one line. */
function shown(value: unknown): string {
  const text =
    typeof value === 'string' ? JSON.stringify(value) : typeof value === 'object' ? typeof value : String(value);
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

// Limits on what an image may contain, for archives that are made to harm: each ends in one error.

/**
 * The largest JSON document that is kept in memory, bytes. Registries refuse larger manifests (distribution-spec,
 * "Pushing manifests").
 */
export const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024;

/** All documents of one image together, bytes. Real images have some tens of KiB. */
export const MAX_KEPT_BYTES = 64 * 1024 * 1024;

/**
 * Entries of one archive. An image has at most 127 layers on overlay2; an index of many platforms has some hundred
 * blobs.
 */
export const MAX_ENTRIES = 100_000;

/** Manifests below one root. */
export const MAX_MANIFESTS = 10_000;

/** Indexes in indexes. containerd stops at no depth of its own; real layouts have two levels. */
export const MAX_DEPTH = 16;

/** Symlinks and hard links that are followed from one name, as Linux does (MAXSYMLINKS is 40). */
export const MAX_LINKS = 40;
