/**
 * containerd's content store: a file a blob, named by its digest. Where Docker keeps its images there
 * ("containerd image store"), manifests, configs and compressed layers lie as a registry has them.
 * https://github.com/containerd/containerd/blob/main/docs/content-flow.md
 */

import type { StoredBlob } from '../../blob/blob.ts';
import { MAX_MANIFESTS, readDocument as parseDocument, verifyDocument } from '../../oci/documents.ts';
import { buildTree, type ManifestTree, withoutManifests } from '../../oci/image-tree.ts';
import { type Descriptor, type Digest, isDigest, type Manifest } from '../../oci/types.ts';
import { blobFormat, HEAD_BYTES } from '../compression.ts';
import type { StoreSource } from '../source.ts';
import { findDocument, orMissing, type StoreFiles } from './files/files.ts';
import { StoreError } from './files/folder.ts';

/** Bytes of a blob that is read completely when its head is read. */
const MOST_AT_ONCE = 2 * 2 ** 20;

/**
 * Opens an image by the digest of its manifest or index. `folder` is the one that has `blobs` in it. Throws StoreError
 * when the root is not there (`missing`), unreadable or damaged, ImageError for documents that can't be used.
 */
export async function openContentStore(files: StoreFiles, folder: string, root: Digest): Promise<StoreSource> {
  const store = new ContentStore(files, folder);
  const tree = await store.tree(root);
  return {
    kind: 'store',
    description: `the content store of Docker (${folder})`,
    tree,
    open: (digest) => store.open(digest),
    close: () => files.close(),
  };
}

class ContentStore {
  readonly #files: StoreFiles;
  readonly #folder: string;
  readonly #documents = new Map<Digest, Buffer>();
  readonly #manifests = new Map<Digest, Manifest>();

  constructor(files: StoreFiles, folder: string) {
    this.#files = files;
    this.#folder = folder;
  }

  async tree(root: Digest): Promise<ManifestTree> {
    await this.#collect({ digest: root });
    const found = buildTree(root, this.#documents);
    if (!found) throw new StoreError(`${this.#path(root)} is not there`, { path: this.#path(root), code: 'ENOENT' });
    const unpulled = new Set<Digest>();
    for (const [digest, manifest] of this.#manifests) {
      if (digest !== root && !(await this.#isPulled(manifest))) unpulled.add(digest);
    }
    return unpulled.size === 0 ? found.tree : withoutManifests(found.tree, unpulled);
  }

  async open(digest: Digest): Promise<StoredBlob | undefined> {
    const path = this.#path(digest);
    const size = await orMissing(this.#files.size(path));
    if (size === undefined) return undefined;
    const head = await this.#files.bytes(path, size > MOST_AT_ONCE ? HEAD_BYTES : size);
    const read = (start?: number, end?: number) => this.#files.range(path, start, end);
    return { size, format: blobFormat(head), seekable: true, read, ...(size > MOST_AT_ONCE ? {} : { bytes: head }) };
  }

  /** Reads the documents below a descriptor, each verified by its digest; those that are not there are left out. */
  async #collect(descriptor: Pick<Descriptor, 'digest'> & Partial<Descriptor>): Promise<void> {
    if (this.#documents.has(descriptor.digest)) return;
    if (this.#documents.size > 2 * MAX_MANIFESTS) throw new StoreError(`more than ${MAX_MANIFESTS} manifests`);
    const bytes = await findDocument(this.#files, this.#path(descriptor.digest));
    if (!bytes) return;
    const what = `the manifest ${descriptor.digest}`;
    verifyDocument(bytes, descriptor, what);
    this.#documents.set(descriptor.digest, bytes);
    const document = parseDocument(bytes, what, descriptor.mediaType);
    if (document.kind === 'index') for (const child of document.index.manifests) await this.#collect(child);
    if (document.kind === 'manifest') await this.#collectConfig(descriptor.digest, document.manifest);
  }

  async #collectConfig(digest: Digest, manifest: Manifest): Promise<void> {
    this.#manifests.set(digest, manifest);
    const { config } = manifest;
    const bytes = this.#documents.has(config.digest)
      ? undefined
      : await findDocument(this.#files, this.#path(config.digest));
    if (!bytes) return;
    verifyDocument(bytes, config, `the config ${config.digest}`);
    this.#documents.set(config.digest, bytes);
  }

  /** Whether a platform's content was pulled: an engine may have the manifest of one whose blobs it never asked for. */
  async #isPulled(manifest: Manifest): Promise<boolean> {
    if (!this.#documents.has(manifest.config.digest)) return false;
    for (const layer of manifest.layers) {
      if ((await orMissing(this.#files.size(this.#path(layer.digest)))) !== undefined) return true;
    }
    return manifest.layers.length === 0;
  }

  #path(digest: Digest): string {
    if (!isDigest(digest)) throw new StoreError(`${digest} is not a sha256 digest`);
    return `${this.#folder}/blobs/sha256/${digest.slice('sha256:'.length)}`;
  }
}
