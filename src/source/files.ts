/**
 * The files that an image lies in: a folder or a tar file as a set of names, each opened for any range of its bytes.
 */

import { createHash } from 'node:crypto';
import { close, read } from 'node:fs';
import { readlink, realpath, stat } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { Readable } from 'node:stream';
import { buffer as allOf } from 'node:stream/consumers';
import { promisify } from 'node:util';
import type { BlobFormat, StoredBlob } from '../blob/blob.ts';
import { type FillStream, openFileStream } from '../blob/blocks.ts';
import { ImageError, messageOf } from '../common/error.ts';
import { NotRegularError, openRegular } from '../common/open-regular.ts';
import { expectDocumentSize, verifyDocument } from '../oci/documents.ts';
import type { ImageTree } from '../oci/image-tree.ts';
import { type Digest, hexOf } from '../oci/types.ts';
import { blobFormat, decompress, HEAD_BYTES } from './compression.ts';
import type { StoreSource } from './source.ts';

const closeFile = promisify(close);
const readFile = promisify(read);

/** A file on disk, of which any range is read for as long as it is open, even after its name is gone. */
export class RandomFile {
  /** Bytes. */
  readonly size: number;
  readonly #fd: number;
  #closed: Promise<void> | undefined;

  constructor({ fd, size }: { readonly fd: number; readonly size: number }) {
    this.#fd = fd;
    this.size = size;
  }

  /** Opens a regular file. Throws NotRegularError, or the system's error. */
  static async open(path: string): Promise<RandomFile> {
    return new RandomFile(await openRegular(path));
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

  /** The same open file for a reader whose `close` leaves it open. */
  shared(): RandomFile {
    const file = new RandomFile({ fd: this.#fd, size: this.size });
    file.#closed = Promise.resolve();
    return file;
  }

  /** The path that the system has opened, all links resolved; undefined where it does not report it (no /proc). */
  async resolvedPath(): Promise<string | undefined> {
    return readlink(`/proc/self/fd/${this.#fd}`).catch(() => undefined);
  }

  close(): Promise<void> {
    this.#closed ??= closeFile(this.#fd);
    return this.#closed;
  }
}

/** One file of a set. */
export interface OpenFile {
  /** Bytes. */
  readonly size: number;
  /**
   * Whether a link has led out of the folder to it: it may be any file of this machine. Nothing of it is sent, and
   * nothing of it appears in a message, before its bytes have been seen to have the digest that the image names.
   */
  readonly isOutside?: boolean;
  /** The bytes [start, end), all of them without arguments. */
  read(start?: number, end?: number): Readable & { recycle?(chunk: Buffer): void };
}

export interface Files {
  /** For messages: "OCI layout ./dist", "archive image.tar". */
  readonly description: string;
  /** Opens a file by its path in the set, with `/`; undefined when there is none. Throws ImageError. */
  open(path: string): Promise<OpenFile | undefined>;
  /** Bytes of a file, which is not opened; undefined when there is none. Throws ImageError. */
  size(path: string): Promise<number | undefined>;
  close(): Promise<void>;
}

/**
 * All bytes of a document; undefined when there is none. With `expected` they are those of this digest. Throws
 * ImageError for other bytes, for one over MAX_DOCUMENT_BYTES, and for one outside of the folder that has no digest to
 * verify it by.
 */
export async function readDocumentFile(
  files: Files,
  path: string,
  expected?: { readonly digest: Digest; readonly size?: number },
): Promise<Buffer | undefined> {
  const file = await files.open(path);
  if (!file) return undefined;
  const what = `${path} in ${files.description}`;
  if (file.isOutside && !expected) {
    throw new ImageError('Layout', `${what} is a link that leads out of the folder`, {
      remedy: 'copy the file itself into the folder',
    });
  }
  expectDocumentSize(file.size, what);
  const bytes = await allOf(file.read());
  if (expected) verifyDocument(bytes, expected, what);
  return bytes;
}

/** The format of a file, by its first bytes. */
export async function fileFormat(file: OpenFile): Promise<BlobFormat> {
  return blobFormat(await allOf(file.read(0, Math.min(HEAD_BYTES, file.size))));
}

/** A file as a blob. */
async function storedBlob(file: OpenFile): Promise<StoredBlob> {
  const format = await fileFormat(file);
  return { size: file.size, format, seekable: true, read: (start, end) => file.read(start, end) };
}

/**
 * A folder as a set of files. Links in it are followed, also out of it: build tools link blobs to where they have them
 * (Bazel's rules_oci). What lies outside is marked, see `OpenFile.isOutside`.
 */
export class FolderFiles implements Files {
  readonly description: string;
  readonly #folder: string;
  readonly #open = new Map<string, Promise<OpenFile | undefined>>();
  readonly #files: RandomFile[] = [];
  #resolvedFolder: Promise<string> | undefined;

  constructor(folder: string, description: string) {
    this.#folder = folder;
    this.description = description;
  }

  open(path: string): Promise<OpenFile | undefined> {
    const known = this.#open.get(path) ?? this.#openFile(path);
    this.#open.set(path, known);
    return known;
  }

  async size(path: string): Promise<number | undefined> {
    return this.#found(path, async () => {
      const found = await stat(join(this.#folder, path));
      if (found.isFile()) return found.size;
      throw new NotRegularError(path, 'something else');
    });
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#open.values());
    this.#open.clear();
    await Promise.all(this.#files.splice(0).map((file) => file.close()));
  }

  #openFile(path: string): Promise<OpenFile | undefined> {
    return this.#found(path, async () => {
      const file = await RandomFile.open(join(this.#folder, path));
      this.#files.push(file);
      const { size } = file;
      return {
        size,
        isOutside: await this.#isOutside(file, path),
        read: (start = 0, end = size) => file.stream(start, Math.min(end, size)),
      };
    });
  }

  /** Asks for the path of what is open: a link that is changed meanwhile makes no difference. */
  async #isOutside(file: RandomFile, path: string): Promise<boolean> {
    this.#resolvedFolder ??= realpath(this.#folder);
    const actual = (await file.resolvedPath()) ?? (await realpath(join(this.#folder, path)));
    return !actual.startsWith((await this.#resolvedFolder) + sep);
  }

  async #found<T>(path: string, act: () => Promise<T>): Promise<T | undefined> {
    try {
      return await act();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
      const why = error instanceof NotRegularError ? 'it is not a regular file' : messageOf(error);
      throw new ImageError('Layout', `${path} in ${this.description} can't be read: ${why}`, { cause: error });
    }
  }
}

// A store whose blobs lie in files: OCI layouts and docker-archives, in a folder or a tar file.

/** The name of a blob in a layout. image-layout.md, section Blobs. */
export const blobPath = (digest: Digest): string => `blobs/sha256/${hexOf(digest)}`;

/** Where a blob lies that is not where a layout has it. */
export interface BlobPlace {
  readonly path: string;
  /** A layer in a compression that registries have no media type for: its bytes are what this decompresses to. */
  readonly compression?: 'xz' | 'bzip2' | undefined;
}

export class FileStore implements StoreSource {
  readonly kind = 'store';
  readonly description: string;
  readonly tree: ImageTree;
  readonly #files: Files;
  readonly #places: ReadonlyMap<Digest, BlobPlace>;

  constructor(files: Files, tree: ImageTree, places: ReadonlyMap<Digest, BlobPlace> = new Map()) {
    this.description = files.description;
    this.tree = tree;
    this.#files = files;
    this.#places = places;
  }

  async open(digest: Digest): Promise<StoredBlob | undefined> {
    const { path, compression } = this.#places.get(digest) ?? { path: blobPath(digest) };
    const file = await this.#files.open(path);
    if (!file) {
      const document = this.tree.kind === 'manifests' ? this.tree.documents.get(digest) : undefined;
      return document && documentBlob(document);
    }
    if (compression) return decompressedBlob(file, compression);
    if (file.isOutside && (await fileDigest(file)) !== digest) {
      throw new ImageError(
        'Layout',
        `${path} in ${this.description} leads out of the folder, to other bytes than ${digest}`,
        {
          remedy: 'make the layout again, with its own copy of each blob',
        },
      );
    }
    return storedBlob(file);
  }

  close(): Promise<void> {
    return this.#files.close();
  }
}

/** The digest of a file's bytes. */
export async function fileDigest(file: OpenFile): Promise<Digest> {
  const sha = createHash('sha256');
  const input = file.read();
  for await (const chunk of input as AsyncIterable<Buffer>) {
    sha.update(chunk);
    input.recycle?.(chunk);
  }
  return `sha256:${sha.digest('hex')}`;
}

function documentBlob(bytes: Buffer): StoredBlob {
  const read = (start = 0, end = bytes.length) => Readable.from([bytes.subarray(start, end)], { objectMode: false });
  return { size: bytes.length, format: blobFormat(bytes.subarray(0, HEAD_BYTES)), seekable: true, read };
}

function decompressedBlob(file: OpenFile, compression: 'xz' | 'bzip2'): StoredBlob {
  const read = () => Readable.from(decompress(file.read(), compression), { objectMode: false });
  return { format: 'tar', seekable: false, read };
}
