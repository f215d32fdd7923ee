/** The blobs of an image in a registry, read from there when they have to move: out of as few answers as can be. */

import { Readable } from 'node:stream';
import type { StoredBlob } from '../../blob/blob.ts';
import { ImageError } from '../../common/error.ts';
import type { ManifestTree } from '../../oci/image-tree.ts';
import { type Descriptor, type Digest, layerCompression } from '../../oci/types.ts';
import { walk } from '../../oci/walk.ts';
import type { StoreSource } from '../source.ts';

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

/**
 * The blobs of an image in the repositories that have them; `name` is for the log. Nothing is asked for before a blob
 * is read.
 */
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

  /**
   * Sends the request for all of a blob: its answer tells whether there are ranges. Throws ImageError for a blob that
   * is not there.
   */
  async open(digest: Digest): Promise<StoredBlob | undefined> {
    const blob = this.#blobs.get(digest);
    if (!blob) return undefined;
    const { size, mediaType } = blob;
    // Only its media type tells: the first bytes would cost a request.
    const format = layerCompression(mediaType) ?? 'other';
    if (size === 0) return { size, format, seekable: true, bytes: Buffer.alloc(0), read: () => Readable.from([]) };
    const what = `the blob ${digest} of ${this.description}`;
    const ranges = new Ranges(what, size, (start) => this.#read(digest, start, size));
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
    throw new ImageError('Export', `${this.description} has the image's manifest, and not its blob ${digest}`, {
      remedy: 'that registry has lost it: push the image there again',
    });
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
  readonly #what: string;
  readonly #size: number;
  readonly #request: (start: number) => Promise<{ stream: Readable; ranges: boolean }>;
  /** What no reader has taken. */
  #waiting: OpenAnswer | undefined;
  #isClosed = false;

  constructor(what: string, size: number, request: (start: number) => Promise<{ stream: Readable; ranges: boolean }>) {
    this.#what = what;
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
    if (!done) return value;
    throw new ImageError(
      'Export',
      `${this.#what} ends at byte ${position}, and its manifest says ${this.#size} bytes`,
      {
        remedy: 'the image is damaged there: push it there again',
      },
    );
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
