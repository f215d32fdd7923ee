/** An archive that comes as a stream, `docker save` or `podman save`: each entry is decided as it arrives. */

import { Readable } from 'node:stream';
import type { StreamedBlob } from '../../blob/blob.ts';
import { asImageError, ImageError } from '../../common/error.ts';
import { isJson, MAX_DOCUMENT_BYTES, MAX_ENTRIES, verifyDocument } from '../../oci/documents.ts';
import type { ImageTree } from '../../oci/image-tree.ts';
import type { Digest } from '../../oci/types.ts';
import { cleanName, cleanTarget, roleOf } from '../choose.ts';
import { blobFormat, HEAD_BYTES, looksLikeJson } from '../compression.ts';
import type { StreamSource } from '../source.ts';
import { type ByteInput, EntryReader, endOfBody, readHeader, TAR_BLOCK, type TarEntry } from './entry.ts';
import { type AskedImage, KeptDocuments, LegacyLayers } from './stream-documents.ts';

/** The writer of the archive: `docker save` or `podman save`. */
export interface Exporter {
  readonly input: ByteInput;
  /** Resolves when the archive was written to its end, rejects with an ImageError when it was not. */
  readonly finished: Promise<void>;
  /** Ends it at once, its process too. Never rejects. */
  stop(): Promise<void>;
}

export class ArchiveStream implements StreamSource {
  readonly kind = 'stream';
  readonly description: string;
  readonly #exporter: Exporter;
  readonly #signal: AbortSignal;
  readonly #kept: KeptDocuments;
  readonly #legacy: LegacyLayers;
  readonly #abort: () => void;
  #entries = 0;
  /** The body that was given out last: it ends with the stream, read or not. */
  #body: Readable | undefined;

  constructor(description: string, exporter: Exporter, asked: AskedImage, signal: AbortSignal) {
    this.description = description;
    this.#exporter = exporter;
    this.#signal = signal;
    this.#kept = new KeptDocuments(asked);
    this.#legacy = new LegacyLayers(asked.diffIds);
    this.#abort = () => {
      this.#body?.destroy(signal.reason);
      void exporter.stop();
    };
    signal.addEventListener('abort', this.#abort, { once: true });
    if (signal.aborted) this.#abort();
  }

  tree(): ImageTree | undefined {
    return this.#kept.tree();
  }

  async *blobs(): AsyncGenerator<StreamedBlob> {
    try {
      yield* this.#members();
      await this.#exporter.finished;
      this.#kept.end();
    } catch (error) {
      throw await this.#explain(error);
    } finally {
      await this.close();
    }
  }

  async close(): Promise<void> {
    this.#signal.removeEventListener('abort', this.#abort);
    this.#body?.destroy();
    await this.#exporter.stop();
  }

  async *#members(): AsyncGenerator<StreamedBlob> {
    const { input } = this.#exporter;
    const block = Buffer.alloc(TAR_BLOCK);
    let came = 0;
    const nextBlock = async () => {
      came = await input.fill(block);
      return Buffer.from(block.subarray(0, came));
    };
    let position = 0;
    do {
      const found = await readHeader(nextBlock, position);
      if (found) {
        yield* this.#entry(found, new EntryReader(input, found.size));
        position = endOfBody(found);
      } else position += came;
    } while (came > 0);
  }

  async *#entry(entry: TarEntry, reader: EntryReader): AsyncGenerator<StreamedBlob> {
    this.#entries += 1;
    if (this.#entries > MAX_ENTRIES)
      throw new ImageError('Archive', `the archive has more than ${MAX_ENTRIES} entries`);
    const blob = await this.#decide(entry, reader);
    if (blob) {
      this.#body = blob.body;
      yield blob;
      if (!blob.body.closed) await new Promise((resolve) => blob.body.once('close', resolve));
      this.#signal.throwIfAborted();
    }
    await reader.drain();
  }

  /** Keeps a document, returns a blob, and skips all else. */
  async #decide({ header, name: given, isFile }: TarEntry, reader: EntryReader): Promise<StreamedBlob | undefined> {
    const name = cleanName(given);
    if (header.type === 'symlink' || header.type === 'link') cleanTarget(name, header.type, header.linkname ?? '');
    if (!isFile) return undefined;
    const entry = roleOf(name);
    if (entry.role === 'list') this.#kept.addList(name, await readDocument(name, reader));
    if (entry.role === 'config') this.#kept.add(entry.digest, await readDocument(name, reader, entry.digest));
    if (entry.role === 'layer-json' && reader.size <= MAX_DOCUMENT_BYTES)
      this.#legacy.read(entry.folder, await readDocument(name, reader));
    if (entry.role === 'layer') return this.#layer(name, entry.folder, reader);
    return entry.role === 'blob' ? await this.#blob(name, entry.digest, reader) : undefined;
  }

  async #layer(name: string, folder: string, reader: EntryReader): Promise<StreamedBlob> {
    const format = blobFormat(await reader.peek(HEAD_BYTES));
    // A diffID is the digest of a plain tar; of a compressed one only its bytes tell.
    const diffId = format === 'tar' ? this.#legacy.diffIdOf(folder) : undefined;
    if (diffId) this.#kept.saw(diffId);
    return this.#blobOf(name, reader, format, diffId);
  }

  async #blob(name: string, digest: Digest, reader: EntryReader): Promise<StreamedBlob | undefined> {
    const head = await reader.peek(HEAD_BYTES);
    const format = blobFormat(head);
    const mayBeDocument = format === 'other' && looksLikeJson(head) && reader.size <= MAX_DOCUMENT_BYTES;
    if (!mayBeDocument || this.#kept.isLayer(digest)) {
      this.#kept.saw(digest);
      return this.#blobOf(name, reader, format, digest);
    }
    const bytes = await readDocument(name, reader, digest);
    if (isJson(bytes)) {
      this.#kept.add(digest, bytes);
      return undefined;
    }
    this.#kept.saw(digest);
    return { name, digest, size: bytes.length, format, body: Readable.from([bytes], { objectMode: false }) };
  }

  #blobOf(name: string, reader: EntryReader, format: StreamedBlob['format'], digest?: Digest): StreamedBlob {
    const body = reader.body((error) => this.#explain(error));
    return { name, ...(digest === undefined ? {} : { digest }), size: reader.size, format, body };
  }

  /** Why a stream broke: cancelled, the exporter's own failure, or the archive itself. */
  async #explain(error: unknown): Promise<Error> {
    if (this.#signal.aborted) return this.#signal.reason as Error;
    if (error instanceof ImageError && error.step !== 'Archive') return error;
    // Only a stream that is through has an exporter that will end by itself; any other is still writing to us.
    if (!this.#exporter.input.over) await this.#exporter.stop();
    const failure = await this.#exporter.finished.then(
      () => undefined,
      (reason: Error) => reason,
    );
    const own = asImageError(error, 'Archive', `the archive of ${this.description} can't be read`);
    return failure instanceof ImageError && failure.step === 'Export' ? failure : own;
  }
}

async function readDocument(name: string, reader: EntryReader, digest?: Digest): Promise<Buffer> {
  if (reader.size > MAX_DOCUMENT_BYTES) {
    throw new ImageError(
      'Archive',
      `${name} has ${reader.size} bytes, more than the ${MAX_DOCUMENT_BYTES} of any real document`,
    );
  }
  const bytes = await reader.rest();
  if (digest) verifyDocument(bytes, { digest }, name);
  return bytes;
}
