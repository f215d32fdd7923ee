/** An OCI image layout, a folder or a tar file of one: image-spec image-layout.md. Images and artifacts alike. */

import { Readable } from 'node:stream';
import type { StoredBlob } from '../../blob/blob.ts';
import { buildTree, withReferrers } from '../../oci/build.ts';
import { MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_KEPT_BYTES, readDocument, verifyDocument } from '../../oci/documents.ts';
import { ImageError } from '../../oci/error.ts';
import type { ImageTree } from '../../oci/image-tree.ts';
import {
  type Descriptor,
  type Digest,
  type Index,
  isImageConfigType,
  isIndexType,
  isManifestType,
} from '../../oci/types.ts';
import { candidatesOfIndex, chooseOne, matching, readIndex } from '../choose.ts';
import { blobFormat, type Files, HEAD_BYTES, readSmall, storedBlob } from '../files.ts';
import type { StoreSource } from '../source.ts';

/** The name of a blob in a layout. image-layout.md, section Blobs. */
export const blobPath = (digest: Digest): string => `blobs/sha256/${digest.slice('sha256:'.length)}`;

/** Reads the image that `ref` means in a layout whose `index.json` is given. Throws ImageError. */
export async function openLayout(files: Files, index: Index, ref: string | undefined): Promise<StoreSource> {
  const reader = new DocumentReader(files);
  const root = await chooseRoot(index, ref, files.description, reader);
  await reader.read(root, 0);
  const others = index.manifests.filter(({ digest }) => digest !== root.digest);
  for (const other of others) await reader.read(other, 0);
  const found = buildTree(root, reader.documents);
  if (!found) {
    throw new ImageError('Layout', `${files.description} names ${root.digest} in index.json and does not hold it`, {
      remedy: 'the layout is not complete: make it again',
    });
  }
  return new FileStore(files, withReferrers(found.tree, others));
}

/** A store whose blobs lie in files: by default as a layout has them, else where `paths` says. */
export class FileStore implements StoreSource {
  readonly kind = 'store';
  readonly description: string;
  readonly tree: ImageTree;
  readonly #files: Files;
  readonly #paths: ReadonlyMap<Digest, string>;

  constructor(files: Files, tree: ImageTree, paths: ReadonlyMap<Digest, string> = new Map()) {
    this.description = files.description;
    this.tree = tree;
    this.#files = files;
    this.#paths = paths;
  }

  async open(digest: Digest): Promise<StoredBlob | undefined> {
    const file = await this.#files.open(this.#paths.get(digest) ?? blobPath(digest));
    if (file) return storedBlob(file);
    const document = this.tree.kind === 'manifests' ? this.tree.documents.get(digest) : undefined;
    return document && memoryBlob(document);
  }

  close(): Promise<void> {
    return this.#files.close();
  }
}

function memoryBlob(bytes: Buffer): StoredBlob {
  const read = (start = 0, end = bytes.length) => Readable.from([bytes.subarray(start, end)], { objectMode: false });
  return { size: bytes.length, format: blobFormat(bytes.subarray(0, HEAD_BYTES)), seekable: true, read };
}

/**
 * The one image asked for. Without a name: the only one, or the only one that is not about another (`subject`), for
 * layouts hold signatures beside what they sign.
 */
async function chooseRoot(
  index: Index,
  ref: string | undefined,
  where: string,
  reader: DocumentReader,
): Promise<Descriptor> {
  const candidates = candidatesOfIndex(index);
  if (ref !== undefined || matching(candidates, undefined).length <= 1) return chooseOne(candidates, ref, where);
  const independent = [];
  for (const candidate of candidates) {
    await reader.read(candidate.item, 0);
    if (!reader.hasSubject(candidate.item)) independent.push(candidate);
  }
  return chooseOne(independent, undefined, where);
}

/** Reads the documents below a descriptor, each verified against it: indexes, manifests, and configs that are small. */
class DocumentReader {
  readonly documents = new Map<Digest, Buffer>();
  readonly #files: Files;
  #bytes = 0;

  constructor(files: Files) {
    this.#files = files;
  }

  hasSubject(descriptor: Descriptor): boolean {
    const bytes = this.documents.get(descriptor.digest);
    const document = bytes && readDocument(bytes, `the manifest ${descriptor.digest}`, descriptor.mediaType);
    return document?.kind === 'manifest' && document.manifest.subject !== undefined;
  }

  async read(descriptor: Descriptor, depth: number): Promise<void> {
    if (depth > MAX_DEPTH)
      throw new ImageError('Layout', `${this.#files.description} nests indexes more than ${MAX_DEPTH} deep`);
    if (this.documents.has(descriptor.digest)) return;
    const bytes = await this.#load(descriptor);
    if (!bytes) return;
    const document = readDocument(bytes, `the manifest ${descriptor.digest}`, descriptor.mediaType);
    if (document.kind === 'index') for (const child of document.index.manifests) await this.read(child, depth + 1);
    if (document.kind === 'manifest') await this.#config(document.manifest.config);
  }

  /** An artifact's config may be anything, of any size: a large one is read like a layer, when it is sent. */
  async #config(config: Descriptor): Promise<void> {
    if (this.documents.has(config.digest)) return;
    if (isImageConfigType(config.mediaType) || config.size <= MAX_ARTIFACT_CONFIG) await this.#load(config);
  }

  async #load(descriptor: Descriptor): Promise<Buffer | undefined> {
    const bytes = (await readSmall(this.#files, blobPath(descriptor.digest))) ?? embedded(descriptor);
    if (!bytes) return undefined;
    const kind = isIndexType(descriptor.mediaType)
      ? 'index'
      : isManifestType(descriptor.mediaType)
        ? 'manifest'
        : 'document';
    verifyDocument(bytes, descriptor, `the ${kind} ${descriptor.digest} in ${this.#files.description}`);
    this.#bytes += bytes.length;
    if (this.#bytes > MAX_KEPT_BYTES) {
      throw new ImageError(
        'Layout',
        `${this.#files.description} has more than ${MAX_KEPT_BYTES} bytes of documents for one image`,
      );
    }
    this.documents.set(descriptor.digest, bytes);
    return bytes;
  }
}

/** Larger configs of artifacts are not kept in memory, bytes. */
const MAX_ARTIFACT_CONFIG = 64 * 1024;

/** descriptor.md, `data`: content that travels in its own descriptor. */
function embedded(descriptor: Descriptor): Buffer | undefined {
  if (typeof descriptor.data !== 'string' || descriptor.data.length > 2 * MAX_DOCUMENT_BYTES) return undefined;
  return Buffer.from(descriptor.data, 'base64');
}

/** Reads `index.json`; undefined when the files are no layout. Throws ImageError. */
export async function layoutIndex(files: Files): Promise<Index | undefined> {
  const bytes = await readSmall(files, 'index.json');
  return bytes && readIndex(bytes);
}
