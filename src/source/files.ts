/** A file on disk that any range of is read, for as long as it is open, whatever becomes of its name. */

import { close, fstat, open, read } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { promisify } from 'node:util';
import type { BlobFormat, StoredBlob } from '../blob/blob.ts';
import { type FillStream, openFileStream } from '../blob/blocks.ts';
import { MAX_DOCUMENT_BYTES } from '../oci/documents.ts';
import { ImageError, messageOf } from '../oci/error.ts';

const openFile = promisify(open);
const statFile = promisify(fstat);
const closeFile = promisify(close);
const readFile = promisify(read);

export class RandomFile {
  /** Bytes. */
  readonly size: number;
  readonly #fd: number;
  #closed: Promise<void> | undefined;

  private constructor(fd: number, size: number) {
    this.#fd = fd;
    this.size = size;
  }

  /** Opens a regular file. Throws what the system says. */
  static async open(path: string): Promise<RandomFile> {
    const fd = await openFile(path, 'r');
    const stat = await statFile(fd);
    if (stat.isFile()) return new RandomFile(fd, stat.size);
    await closeFile(fd);
    throw new Error('it is not a regular file');
  }

  /** The bytes at a position, fewer where the file ends. */
  async read(position: number, length: number): Promise<Buffer> {
    const buffer = Buffer.alloc(Math.max(0, Math.min(length, this.size - position)));
    let done = 0;
    while (done < buffer.length) {
      const { bytesRead } = await readFile(this.#fd, buffer, done, buffer.length - done, position + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return buffer.subarray(0, done);
  }

  /** The bytes [start, end) as a stream, which fails when the file ends before. */
  stream(start: number, end: number): FillStream {
    return openFileStream(this.#fd, start, end);
  }

  close(): Promise<void> {
    this.#closed ??= closeFile(this.#fd);
    return this.#closed;
  }
}

/** A set of files that an image lies in: a folder, or a tar file. */

/** One file of the set. */
export interface OpenFile {
  /** Bytes. */
  readonly size: number;
  /** The bytes [start, end), all of them without arguments. */
  read(start?: number, end?: number): Readable & { recycle?(chunk: Buffer): void };
}

export interface Files {
  /** For messages: "OCI layout ./dist", "archive image.tar". */
  readonly description: string;
  /** Opens a file by its path in the set, with `/`; undefined when there is none. Throws ImageError. */
  open(path: string): Promise<OpenFile | undefined>;
  close(): Promise<void>;
}

/** A whole small file; undefined when there is none. Throws ImageError for one over `limit` bytes. */
export async function readSmall(files: Files, path: string, limit = MAX_DOCUMENT_BYTES): Promise<Buffer | undefined> {
  const file = await files.open(path);
  if (!file) return undefined;
  if (file.size > limit) {
    throw new ImageError(
      'Archive',
      `${path} in ${files.description} has ${file.size} bytes, more than the ${limit} of any real document`,
    );
  }
  return collect(file.read());
}

/** A file as a blob, its form told by its first bytes. */
export async function storedBlob(file: OpenFile): Promise<StoredBlob> {
  const head = await collect(file.read(0, Math.min(HEAD_BYTES, file.size)));
  return { size: file.size, format: blobFormat(head), seekable: true, read: (start, end) => file.read(start, end) };
}

/** A folder as a set of files. Symbolic links in it are followed: build tools link blobs to where they have them. */
export class FolderFiles implements Files {
  readonly description: string;
  readonly #folder: string;
  readonly #open = new Map<string, Promise<RandomFile | undefined>>();

  constructor(folder: string, description: string) {
    this.#folder = folder;
    this.description = description;
  }

  async open(path: string): Promise<OpenFile | undefined> {
    const known = this.#open.get(path) ?? this.#openFile(path);
    this.#open.set(path, known);
    const file = await known;
    return (
      file && { size: file.size, read: (start = 0, end = file.size) => file.stream(start, Math.min(end, file.size)) }
    );
  }

  async close(): Promise<void> {
    const files = await Promise.allSettled(this.#open.values());
    this.#open.clear();
    await Promise.all(files.map((file) => (file.status === 'fulfilled' ? file.value?.close() : undefined)));
  }

  async #openFile(path: string): Promise<RandomFile | undefined> {
    try {
      return await RandomFile.open(await realpath(join(this.#folder, path)));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
      throw new ImageError('Layout', `${path} in ${this.description} can't be read: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }
}

async function collect(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** Telling a blob's form by its first bytes, never by its name or by who made it. */

/** As many bytes as tell every form: one tar header. */
export const HEAD_BYTES = 512;

const MAGIC_OFFSET = 257;

/** The form of a blob from its first HEAD_BYTES (all there are, if fewer). `ustar` at 257 is POSIX.1-2017 pax, "ustar Header Block". */
export function blobFormat(head: Buffer): BlobFormat {
  if (head[0] === 0x1f && head[1] === 0x8b) return 'gzip';
  if (head.length >= 4 && head.readUInt32LE(0) === 0xfd2fb528) return 'zstd';
  if (head.toString('latin1', MAGIC_OFFSET, MAGIC_OFFSET + 5) === 'ustar') return 'tar';
  // A layer without a file is nothing but the end-of-archive mark.
  return head.length >= HEAD_BYTES && head.every((byte) => byte === 0) ? 'tar' : 'other';
}

/** Whether bytes look like a JSON object or list. */
export function looksLikeJson(head: Buffer): boolean {
  const first = head.find((byte) => byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09);
  return first === 0x7b || first === 0x5b;
}
