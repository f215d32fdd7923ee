/** A set of files that an image lies in: a folder, or a tar file. */
import { realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { RandomFile } from './archive/file.ts';
import { ImageError, messageOf } from './error.ts';
import { blobForm, HEAD_BYTES } from './form.ts';
import { MAX_DOCUMENT_BYTES } from './limits.ts';
import type { StoredBlob } from './source.ts';

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
  return { size: file.size, form: blobForm(head), seekable: true, read: (start, end) => file.read(start, end) };
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
