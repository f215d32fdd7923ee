/** An OCI image layout, a folder or a tar file of one: image-spec image-layout.md. Images and artifacts alike. */

import { ImageError } from '../../common/error.ts';
import {
  MAX_DEPTH,
  MAX_DOCUMENT_BYTES,
  MAX_KEPT_BYTES,
  readDocument,
  readSubject,
  serialise,
  verifyDocument,
} from '../../oci/documents.ts';
import { buildTree, type ManifestTree, withReferrers } from '../../oci/image-tree.ts';
import { formatPlatform } from '../../oci/platforms.ts';
import {
  type Descriptor,
  type Digest,
  digestOf,
  type Index,
  isDocumentType,
  isImageConfigType,
  isManifestType,
  MediaType,
} from '../../oci/types.ts';
import { attestedBy, walk } from '../../oci/walk.ts';
import {
  type Candidate,
  candidatesOfIndex,
  chooseOne,
  fallbackTags,
  IMAGE_NAMES,
  isImageDocument,
  matching,
  readIndex,
} from '../choose.ts';
import { blobPath, FileStore, type Files, readDocumentFile } from '../files.ts';
import type { StoreSource } from '../source.ts';

/** Reads `index.json`; undefined when the files are no layout. Throws ImageError. */
export async function layoutIndex(files: Files): Promise<Index | undefined> {
  const bytes = await readDocumentFile(files, 'index.json');
  return bytes && readIndex(bytes);
}

/** Reads the image that `ref` means in a layout whose `index.json` is given. Throws ImageError. */
export async function openLayout(files: Files, index: Index, ref: string | undefined): Promise<StoreSource> {
  const reader = new DocumentReader(files);
  const root = await chooseRoot(index, ref, files.description, reader);
  await reader.read(root);
  const found = buildTree(root, reader.documents);
  if (!found) {
    throw new ImageError('Layout', `${files.description} names ${root.digest} in index.json and does not hold it`, {
      remedy: 'the layout is not complete: make it again',
    });
  }
  const tree = await addReferrers(found.tree, index, reader);
  await checkSizes(tree, files);
  return new FileStore(files, tree);
}

/**
 * The one image asked for. Without a name: the only one, or the only one that is not about another (`subject`), for
 * layouts hold signatures beside what they sign. Several that are one image each for its platform become an index.
 */
async function chooseRoot(
  index: Index,
  ref: string | undefined,
  where: string,
  reader: DocumentReader,
): Promise<Descriptor> {
  const candidates = candidatesOfIndex(index);
  const fits = matching(candidates, ref);
  if (fits.length <= 1) return chooseOne(candidates, ref, where);
  const independent = [];
  for (const candidate of fits) {
    await reader.read(candidate.item);
    if (reader.subjectOf(candidate.item) === undefined) independent.push(candidate);
  }
  if (independent.length <= 1) return chooseOne(independent, undefined, where);
  const combined = indexOfPlatforms(index, independent, reader.documents);
  if (!combined) return chooseOne(ref === undefined ? independent : candidates, ref, where);
  reader.keep(combined.descriptor.digest, combined.bytes);
  return combined.descriptor;
}

/**
 * The tree with the manifests that speak about a part of it. A layout has them in `index.json` beside the image
 * (skopeo, oras), or below an index that is named like the fallback tag of the referrers API, `sha256-<hex>` (regctl).
 */
async function addReferrers(tree: ManifestTree, index: Index, reader: DocumentReader): Promise<ManifestTree> {
  const others = index.manifests.filter(({ digest }) => digest !== tree.root.digest);
  const candidates = others.filter(isImageDocument).filter((other) => fallbackTags([other]).length === 0);
  for (const fallback of fallbackTags(index.manifests)) candidates.push(...(await reader.childrenOf(fallback)));
  const speaking = [];
  for (const candidate of candidates) {
    if ((await reader.peekSubject(candidate)) !== undefined) speaking.push(candidate);
  }
  const found = withReferrers(tree, speaking);
  for (const referrer of found.referrers ?? []) await reader.read(referrer);
  return found;
}

/**
 * Throws ImageError when a blob that is here has another size than its descriptor says: containerd and skopeo refuse to
 * pull such an image ("unexpected commit size", "size mismatch"), and a registry accepts it.
 */
async function checkSizes(tree: ManifestTree, files: Files): Promise<void> {
  for (const { digest, size } of walk(tree).blobs) {
    const actual = tree.documents.get(digest)?.length ?? (await files.size(blobPath(digest)));
    if (actual === undefined || actual === size) continue;
    const text = `the blob ${digest} in ${files.description} has ${actual} bytes where its descriptor says ${size}`;
    throw new ImageError('Layout', text, { remedy: 'the layout is damaged: make it again' });
  }
}

/** Reads the documents below a descriptor, each verified against it: indexes, manifests, and configs that are small. */
class DocumentReader {
  readonly documents = new Map<Digest, Buffer>();
  readonly #files: Files;
  /** What was read with all below it. */
  readonly #read = new Set<Digest>();
  #bytes = 0;

  constructor(files: Files) {
    this.#files = files;
  }

  /** What a document that was read is about, if it is about another one. */
  subjectOf(descriptor: Descriptor): Digest | undefined {
    const bytes = this.documents.get(descriptor.digest);
    return bytes && readSubject(bytes, descriptor);
  }

  /** The same of a document that need not be read: it is kept only if it is about another one. */
  async peekSubject(descriptor: Descriptor): Promise<Digest | undefined> {
    const bytes = this.documents.get(descriptor.digest) ?? (await this.#load(descriptor));
    const subject = bytes && readSubject(bytes, descriptor);
    if (bytes && subject !== undefined) this.keep(descriptor.digest, bytes);
    return subject;
  }

  /** What an index names; nothing when it is not here. */
  async childrenOf(descriptor: Descriptor): Promise<readonly Descriptor[]> {
    const bytes = this.documents.get(descriptor.digest) ?? (await this.#load(descriptor));
    const document = bytes && readDocument(bytes, `the index ${descriptor.digest}`, descriptor.mediaType);
    return document?.kind === 'index' ? document.index.manifests : [];
  }

  /** Reads a document and all below it; what is not here is left out. */
  async read(descriptor: Descriptor, depth = 0): Promise<void> {
    if (depth > MAX_DEPTH)
      throw new ImageError('Layout', `${this.#files.description} nests indexes more than ${MAX_DEPTH} deep`);
    if (this.#read.has(descriptor.digest)) return;
    this.#read.add(descriptor.digest);
    const bytes = this.documents.get(descriptor.digest) ?? (await this.#load(descriptor));
    if (!bytes) return;
    this.keep(descriptor.digest, bytes);
    const document = readDocument(bytes, `the manifest ${descriptor.digest}`, descriptor.mediaType);
    const children = document.kind === 'index' ? document.index.manifests : [];
    for (const child of children) if (isDocumentType(child.mediaType)) await this.read(child, depth + 1);
    if (document.kind === 'manifest') await this.#config(document.manifest.config);
  }

  /** Keeps a verified document. Throws ImageError when there are too many. */
  keep(digest: Digest, bytes: Buffer): void {
    if (this.documents.has(digest)) return;
    this.#bytes += bytes.length;
    if (this.#bytes > MAX_KEPT_BYTES) {
      const text = `${this.#files.description} has more than ${MAX_KEPT_BYTES} bytes of documents for one image`;
      throw new ImageError('Layout', text);
    }
    this.documents.set(digest, bytes);
  }

  /** An artifact's config may be anything, of any size: a large one is read like a layer, when it is sent. */
  async #config(config: Descriptor): Promise<void> {
    if (this.documents.has(config.digest)) return;
    if (!isImageConfigType(config.mediaType) && config.size > MAX_ARTIFACT_CONFIG) return;
    const bytes = await this.#load(config);
    if (bytes) this.keep(config.digest, bytes);
  }

  async #load(descriptor: Descriptor): Promise<Buffer | undefined> {
    const bytes = await readDocumentFile(this.#files, blobPath(descriptor.digest), descriptor);
    if (bytes) return bytes;
    const data = embedded(descriptor);
    if (data) verifyDocument(data, descriptor, `the content in the descriptor of ${descriptor.digest}`);
    return data;
  }
}

/** Larger configs of artifacts are not kept in memory, bytes. */
const MAX_ARTIFACT_CONFIG = 64 * 1024;

/** descriptor.md, `data`: content that travels in its own descriptor. */
function embedded(descriptor: Descriptor): Buffer | undefined {
  if (typeof descriptor.data !== 'string' || descriptor.data.length > 2 * MAX_DOCUMENT_BYTES) return undefined;
  return Buffer.from(descriptor.data, 'base64');
}

// One image whose platforms are listed directly in `index.json`.

/**
 * The index of images that differ in nothing but their platform: each is a single manifest with a platform of its own,
 * and all have the same names or none. Paketo's buildpacks write such layouts
 * (https://github.com/containers/skopeo/issues/2463), and `crane push --index` pushes them as one index. Attestations
 * of these images come along. Undefined for anything else.
 */
function indexOfPlatforms(
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
