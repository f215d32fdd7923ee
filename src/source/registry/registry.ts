/**
 * An image in a registry (`docker://REFERENCE`): its documents byte for byte, its blobs read from there when they have
 * to move.
 */

import { Readable } from 'node:stream';
import type { BlobFormat, StoredBlob } from '../../blob/blob.ts';
import { MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_KEPT_BYTES, MAX_MANIFESTS, readDocument } from '../../oci/documents.ts';
import { ImageError } from '../../oci/error.ts';
import { buildTree, type ManifestTree, withReferrers } from '../../oci/image-tree.ts';
import { formatReference, parseReference, type Reference, withDefaultTag } from '../../oci/reference.ts';
import { type Descriptor, type Digest, digestOf, isImageConfigType } from '../../oci/types.ts';
import { walk } from '../../oci/walk.ts';
import type { FoundImage, StoreSource } from '../source.ts';

/** One repository of a registry, as far as an image is read from it. */
export interface RemoteRepository {
  /** A manifest by tag or digest, its bytes verified by the digest; undefined when there is none. */
  getManifest(
    reference: string,
    signal: AbortSignal,
  ): Promise<{ readonly descriptor: Descriptor; readonly bytes: Buffer } | undefined>;
  /**
   * A range of a blob as it comes, not verified; undefined when there is none. `ranges`: whether the registry reads
   * ranges.
   */
  readBlob(
    digest: Digest,
    options: { readonly start?: number; readonly end?: number; readonly signal: AbortSignal },
  ): Promise<{ readonly stream: Readable; readonly ranges: boolean } | undefined>;
  /**
   * What the referrers API lists; undefined where the registry has no such API. distribution-spec, "Listing Referrers".
   */
  referrers(subject: Digest, signal: AbortSignal): Promise<readonly Descriptor[] | undefined>;
}

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

  /** The configs of container images among what is missing. Throws ImageError for one that is not there or has other bytes. */
  async readConfigs(missing: readonly Descriptor[]): Promise<void> {
    const configs = missing.filter(({ mediaType, size }) => isImageConfigType(mediaType) && size <= MAX_DOCUMENT_BYTES);
    await inParallel(configs, async ({ digest, size }) => {
      const found = await this.#remote.readBlob(digest, { end: size, signal: this.#signal });
      const chunks: Buffer[] = [];
      for await (const chunk of found?.stream ?? []) chunks.push(chunk as Buffer);
      const bytes = Buffer.concat(chunks);
      if (digestOf(bytes) !== digest) {
        const what = found ? `has other bytes than those of the config ${digest}` : `lacks the config ${digest}`;
        throw new ImageError('Manifest', `the registry ${what}`);
      }
      this.#keep(digest, bytes);
    });
  }

  async #readAll(descriptors: readonly Descriptor[], depth: number): Promise<void> {
    await inParallel(descriptors, async ({ digest, mediaType }) => {
      if (!this.documents.has(digest)) await this.read(digest, depth, mediaType);
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

  /** By the API, or by the tag in its place; both at once, which saves a round trip, until it is known which one counts. */
  async #listed(subject: Digest): Promise<readonly Descriptor[]> {
    if (this.#hasApi === false) return this.#fromTag(subject);
    const tagged = this.#hasApi === undefined ? this.#fromTag(subject) : undefined;
    tagged?.catch(() => {});
    const listed = await this.#remote.referrers(subject, this.#signal);
    this.#hasApi = listed !== undefined;
    return listed ?? tagged ?? this.#fromTag(subject);
  }

  /** distribution-spec, "Referrers Tag Schema": an index under the subject's digest with `-` for `:`. */
  async #fromTag(subject: Digest): Promise<readonly Descriptor[]> {
    const found = await this.#remote.getManifest(subject.replace(':', '-'), this.#signal);
    if (!found) return [];
    const what = `the list of referrers of ${subject}`;
    const document = readDocument(found.bytes, what, found.descriptor.mediaType);
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

/** The blobs of an image in the repositories that have them; `name` is for the log. Nothing is asked for before a blob is read. */
export const blobsInRegistry = (
  name: string,
  tree: ManifestTree,
  repositoryOf: (blob: Digest) => Pick<RemoteRepository, 'readBlob'> | undefined,
  signal: AbortSignal,
): StoreSource => new RemoteStore(name, tree, repositoryOf, signal);

class RemoteStore implements StoreSource {
  readonly kind = 'store';
  readonly description: string;
  readonly tree: ManifestTree;
  readonly #repositoryOf: (blob: Digest) => Pick<RemoteRepository, 'readBlob'> | undefined;
  readonly #signal: AbortSignal;
  readonly #blobs: ReadonlyMap<Digest, Descriptor>;
  readonly #opened: Ranges[] = [];

  constructor(
    name: string,
    tree: ManifestTree,
    repositoryOf: (blob: Digest) => Pick<RemoteRepository, 'readBlob'> | undefined,
    signal: AbortSignal,
  ) {
    this.description = `the registry (${name})`;
    this.tree = tree;
    this.#repositoryOf = repositoryOf;
    this.#signal = signal;
    this.#blobs = new Map(walk(tree).blobs.map((blob) => [blob.digest, blob]));
  }

  /** Sends the request for all of a blob: its answer tells whether there are ranges. Throws ImageError for a blob that is not there. */
  async open(digest: Digest): Promise<StoredBlob | undefined> {
    const blob = this.#blobs.get(digest);
    if (!blob) return undefined;
    const { size, mediaType } = blob;
    const format = formatOf(mediaType);
    if (size === 0) return { size, format, seekable: true, bytes: Buffer.alloc(0), read: () => Readable.from([]) };
    const ranges = new Ranges(size, (start) => this.#read(digest, start, size));
    this.#opened.push(ranges);
    const seekable = await ranges.open();
    return { size, format, seekable, isRemote: true, read: (start, end) => ranges.read(start, end) };
  }

  /** Ends what was opened and is not read. */
  async close(): Promise<void> {
    for (const ranges of this.#opened) ranges.close();
  }

  async #read(digest: Digest, start: number, end: number): Promise<{ stream: Readable; ranges: boolean }> {
    const found = await this.#repositoryOf(digest)?.readBlob(digest, { start, end, signal: this.#signal });
    if (found) return found;
    throw new ImageError('Export', `${this.description} has the image's manifest, and not its blob ${digest}`);
  }
}

/** An answer of the registry that is read on: its next byte is the blob's at `position`. */
interface OpenAnswer {
  position: number;
  readonly stream: Readable;
  readonly chunks: AsyncIterator<Buffer>;
  /** What came of the answer and is not read yet. */
  rest: Buffer | undefined;
}

function openAnswer(position: number, stream: Readable): OpenAnswer {
  // One that breaks while no range is read tells the next reader.
  stream.on('error', () => {});
  const chunks = stream.iterator({ destroyOnReturn: false })[Symbol.asyncIterator]();
  return { position, stream, chunks, rest: undefined };
}

/**
 * A blob's ranges out of as few answers as can be: each request asks for all bytes to the end, and where one range
 * follows the other the same answer goes on. Only what is read again needs another request.
 */
class Ranges {
  readonly #size: number;
  readonly #request: (start: number) => Promise<{ stream: Readable; ranges: boolean }>;
  /** What no reader has taken. */
  #waiting: OpenAnswer | undefined;
  #isClosed = false;

  constructor(size: number, request: (start: number) => Promise<{ stream: Readable; ranges: boolean }>) {
    this.#size = size;
    this.#request = request;
  }

  /** Resolves to whether the registry answers ranges. */
  async open(): Promise<boolean> {
    const { stream, ranges } = await this.#request(0);
    this.#leave(openAnswer(0, stream));
    return ranges;
  }

  /** The bytes [start, end), all of them without arguments. */
  read(start = 0, end = this.#size): Readable {
    return Readable.from(this.#bytes(start, end), { objectMode: false });
  }

  close(): void {
    this.#isClosed = true;
    this.#waiting?.stream.destroy();
  }

  async *#bytes(start: number, end: number): AsyncGenerator<Buffer> {
    if (start >= end) return;
    const answer = await this.#answerAt(start);
    try {
      while (answer.position < end) {
        const bytes = answer.rest ?? (await this.#next(answer));
        const wanted = bytes.subarray(0, end - answer.position);
        answer.rest = wanted.length < bytes.length ? bytes.subarray(wanted.length) : undefined;
        answer.position += wanted.length;
        yield wanted;
      }
    } finally {
      this.#leave(answer);
    }
  }

  async #next({ chunks, position }: OpenAnswer): Promise<Buffer> {
    const { done, value } = await chunks.next();
    if (done) throw new ImageError('Export', `the blob ends at byte ${position}, not at ${this.#size}`);
    return value;
  }

  async #answerAt(start: number): Promise<OpenAnswer> {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting?.position === start) return waiting;
    waiting?.stream.destroy();
    const { stream } = await this.#request(start);
    return openAnswer(start, stream);
  }

  /** An answer that no one reads now: the next range may follow it. */
  #leave(answer: OpenAnswer): void {
    if (answer.position >= this.#size || this.#isClosed) {
      answer.stream.destroy();
      return;
    }
    this.#waiting?.stream.destroy();
    this.#waiting = answer;
  }
}

/** The format as the media type has it: the first bytes would cost a request, and nothing here is compressed again. */
function formatOf(mediaType: string): BlobFormat {
  if (/[.+]gzip$/.test(mediaType)) return 'gzip';
  return mediaType.endsWith('+zstd') ? 'zstd' : 'other';
}
