/**
 * An image in a registry (`docker://REFERENCE`): its documents byte for byte, its blobs read from there when they have
 * to move.
 */

import { buffer as allOf } from 'node:stream/consumers';
import { ImageError, messageOf } from '../../common/error.ts';
import { MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_KEPT_BYTES, MAX_MANIFESTS, readDocument } from '../../oci/documents.ts';
import { buildTree, type ManifestTree, withReferrers } from '../../oci/image-tree.ts';
import { formatReference, parseReference, type Reference, withDefaultTag } from '../../oci/reference.ts';
import { type Descriptor, type Digest, digestOf, isDocumentType, isImageConfigType } from '../../oci/types.ts';
import { walk } from '../../oci/walk.ts';
import type { FoundImage } from '../source.ts';
import { blobsInRegistry, type RemoteRepository } from './blobs.ts';

/** `docker://REFERENCE` as a reference with a tag or digest; undefined for anything else. Throws ImageError. */
export function registrySource(image: string): Reference | undefined {
  const text = /^docker:\/\/(.*)$/s.exec(image)?.[1];
  if (text === undefined) return undefined;
  const reference = parseReference(text);
  return reference.digest === undefined ? withDefaultTag(reference) : reference;
}

interface RemoteOptions {
  readonly signal: AbortSignal;
  /** Reads the configs too; default false. */
  readonly withConfigs?: boolean;
  /** Looks for what refers to the image; default true. */
  readonly withReferrers?: boolean;
  /** A line for the log that a user must see. */
  readonly warning?: (line: string) => void;
}

/**
 * Reads the documents of an image: its index with all platforms, attestations, and what refers to any of them, by the
 * referrers API or the tags in its place. Throws ImageError, and what the registry's client throws.
 */
export async function findInRegistry(
  name: string,
  remote: RemoteRepository,
  options: RemoteOptions,
): Promise<FoundImage> {
  const reference = registrySource(name) ?? parseReference(name);
  const text = formatReference(reference);
  const { withConfigs = false } = options;
  const reader = new RemoteReader(remote, options);
  const root = await reader.read(reference.digest ?? reference.tag!);
  if (!root) {
    throw new ImageError('Resolve', `${text} is not in its registry`, {
      remedy: 'check the name and the tag, and that the credentials for this registry may read it',
    });
  }
  const built = buildTree(root, reader.documents);
  if (!built) throw new ImageError('Resolve', `${text} is neither an image nor an index`);
  if (withConfigs) await reader.readConfigs(built.missing);
  const tree: ManifestTree = { ...withReferrers(built.tree, await reader.referrers()), isVerbatim: true };
  if (reader.unlisted !== undefined) {
    const what = `What refers to ${text} (signatures, bills of materials) may be left out: ${messageOf(reader.unlisted)}`;
    options.warning?.(what);
  }
  const { manifests, indexes } = walk(tree);
  const only = indexes.length === 0 ? manifests.find((one) => one.descriptor.digest === root.digest) : undefined;
  return {
    name,
    imageId: only?.manifest.config.digest ?? root.digest,
    root: root.digest,
    documents: async () => tree,
    open: async (options) => blobsInRegistry(text, tree, () => remote, options.signal),
  };
}

/** Documents asked for at once. */
const READERS = 8;

async function inParallel<T>(items: readonly T[], read: (item: T) => Promise<void>): Promise<void> {
  const waiting = items.values();
  const readNext = async (): Promise<void> => {
    for (const item of waiting) await read(item);
  };
  await Promise.all(Array.from({ length: READERS }, readNext));
}

class RemoteReader {
  readonly documents = new Map<Digest, Buffer>();
  readonly #remote: RemoteRepository;
  readonly #signal: AbortSignal;
  readonly #asksLists: boolean;
  readonly #referrers = new Map<Digest, Descriptor>();
  /** The lists of referrers that were asked for. */
  readonly #lists = new Map<Digest, Promise<void>>();
  #hasApi: boolean | undefined;
  /** Whether a list of referrers was found under a tag. */
  #hasTags = false;
  /** Why a list of referrers could not be read, the first of such failures. */
  unlisted: unknown;
  #bytes = 0;

  constructor(remote: RemoteRepository, { signal, withReferrers: asksLists = true }: RemoteOptions) {
    this.#remote = remote;
    this.#signal = signal;
    this.#asksLists = asksLists;
  }

  /** Reads a manifest with all below it, and asks for what refers to each of them. Undefined when it is not there. */
  async read(reference: string, depth = 0, mediaType?: string): Promise<Descriptor | undefined> {
    if (depth > MAX_DEPTH) throw new ImageError('Manifest', `the image nests indexes more than ${MAX_DEPTH} deep`);
    // The digest of a child is known: its list is asked for at the same time, and not a round trip later.
    if (mediaType !== undefined) void this.#list(reference as Digest);
    const found = await this.#remote.getManifest(reference, this.#signal);
    if (!found) return undefined;
    const { bytes } = found;
    const descriptor = mediaType === undefined ? found.descriptor : { ...found.descriptor, mediaType };
    this.#keep(descriptor.digest, bytes);
    void this.#list(descriptor.digest);
    const document = readDocument(bytes, `the manifest ${descriptor.digest}`, descriptor.mediaType);
    if (document.kind === 'index') await this.#readAll(document.index.manifests, depth + 1);
    return descriptor;
  }

  /** All manifests that refer to one that was read, and to those in turn. */
  async referrers(): Promise<readonly Descriptor[]> {
    for (let waited = -1; waited !== this.#lists.size; ) {
      waited = this.#lists.size;
      await Promise.all(this.#lists.values());
      await this.#readAll([...this.#referrers.values()], 0);
    }
    return [...this.#referrers.values()];
  }

  /**
   * The configs of container images among what is missing. Throws ImageError for one that is not there or has other
   * bytes.
   */
  async readConfigs(missing: readonly Descriptor[]): Promise<void> {
    const configs = missing.filter(({ mediaType, size }) => isImageConfigType(mediaType) && size <= MAX_DOCUMENT_BYTES);
    await inParallel(configs, async ({ digest, size }) => {
      // There is no range of no bytes: distribution answers 416.
      if (size === 0) return this.#keep(digest, Buffer.alloc(0));
      const found = await this.#remote.readBlob(digest, { end: size, signal: this.#signal });
      const bytes = found ? await allOf(found.stream) : Buffer.alloc(0);
      if (digestOf(bytes) !== digest) {
        const what = found ? `has other bytes than those of the config ${digest}` : `lacks the config ${digest}`;
        throw new ImageError('Manifest', `the registry ${what}`);
      }
      this.#keep(digest, bytes);
    });
  }

  async #readAll(descriptors: readonly Descriptor[], depth: number): Promise<void> {
    await inParallel(descriptors, async ({ digest, mediaType }) => {
      // Another entry is a blob: docker-registry answers 500 when it is asked for one as a manifest.
      if (isDocumentType(mediaType) && !this.documents.has(digest)) await this.read(digest, depth, mediaType);
    });
  }

  #list(subject: Digest): Promise<void> {
    if (!this.#asksLists) return Promise.resolve();
    const known = this.#lists.get(subject) ?? this.#listNow(subject);
    this.#lists.set(subject, known);
    // Waited for in `referrers`, unless reading the image fails first.
    known.catch(() => {});
    return known;
  }

  async #listNow(subject: Digest): Promise<void> {
    for (const one of await this.#listed(subject)) this.#referrers.set(one.digest, one);
  }

  /**
   * By the API and by the tag in its place: both at once, which saves a round trip, until it is known that there is an
   * API; and both where tags are seen beside it: a registry that has got the API may not list in it what clients had
   * listed by tags before.
   */
  async #listed(subject: Digest): Promise<readonly Descriptor[]> {
    const isTagAsked = this.#hasApi !== true || this.#hasTags;
    const tagged = isTagAsked ? this.#fromTag(subject).catch((error: unknown) => this.#noteUnlisted(error)) : [];
    const listed = await this.#fromApi(subject).catch((error: unknown) => this.#noteUnlisted(error));
    return [...listed, ...(await tagged)];
  }

  async #fromApi(subject: Digest): Promise<readonly Descriptor[]> {
    if (this.#hasApi === false) return [];
    try {
      const listed = await this.#remote.referrers(subject, this.#signal);
      this.#hasApi = listed !== undefined;
      return listed ?? [];
    } catch (error) {
      this.#hasApi = false;
      throw error;
    }
  }

  /** A list that can't be read is reported at the end: the image goes without it. Throws the signal's reason. */
  #noteUnlisted(error: unknown): readonly Descriptor[] {
    this.#signal.throwIfAborted();
    this.unlisted ??= error;
    return [];
  }

  /** distribution-spec, "Referrers Tag Schema": an index under the subject's digest with `-` for `:`. */
  async #fromTag(subject: Digest): Promise<readonly Descriptor[]> {
    const found = await this.#remote.getManifest(subject.replace(':', '-'), this.#signal);
    if (!found) return [];
    const what = `the list of referrers of ${subject}`;
    const document = readDocument(found.bytes, what, found.descriptor.mediaType);
    this.#hasTags ||= document.kind === 'index';
    return document.kind === 'index' ? document.index.manifests : [];
  }

  #keep(digest: Digest, bytes: Buffer): void {
    if (this.documents.has(digest)) return;
    this.#bytes += bytes.length;
    if (this.#bytes > MAX_KEPT_BYTES || this.documents.size >= MAX_MANIFESTS) {
      throw new ImageError(
        'Manifest',
        `the image has more than ${MAX_MANIFESTS} manifests or ${MAX_KEPT_BYTES} bytes of them`,
      );
    }
    this.documents.set(digest, bytes);
  }
}
