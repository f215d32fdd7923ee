/** How a store's files are read: by this process, or by a helper that may do more (helper/client.ts). */

import { closeSync } from 'node:fs';
import { isAbsolute, relative } from 'node:path';
import { pipeline, type Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { blockStream, blocksOfFile, bytesOfFile } from '../../../blob/blocks.ts';
import { assemble, segmentsOf } from './assemble.ts';
import { Folder, type OpenedFile, StoreError, storeError } from './folder.ts';

/** Bytes of a tar-split file at once: compressed text, which takes a multiple of this when it is unpacked. */
const DOCUMENT_CHUNK = 64 * 1024;
/**
 * The most that is read into memory: Podman's list of all layers is the largest document, some hundred bytes a layer.
 */
const MOST_IN_MEMORY = 64 * 2 ** 20;

/** Reads below some roots. Paths are absolute; streams and promises fail with StoreError. */
export interface StoreFiles {
  /** A file's length in bytes; fails when it cannot be opened for reading. */
  size(path: string): Promise<number>;
  /** A small file, or the bytes [0, end) of one, in memory: not as a stream. */
  bytes(path: string, end?: number): Promise<Buffer>;
  /** The bytes [start, end) of a file, to its end without `end`. */
  range(path: string, start?: number, end?: number): Readable;
  /** A layer's tar, put together from its tar-split file (gzip) and the folder that it was unpacked to. */
  layer(tarSplit: string, folder: string): Readable;
  close(): Promise<void>;
}

/** A small file in memory; undefined when it is not there. Throws StoreError for all else. */
export async function findDocument(files: StoreFiles, path: string): Promise<Buffer | undefined> {
  return orMissing(files.bytes(path));
}

/** Throws StoreError for a file that is too long to be held in memory. */
export function assertSmall(path: string, size: number): void {
  if (size > MOST_IN_MEMORY) throw new StoreError(`${path} is longer than ${MOST_IN_MEMORY} bytes`, { path });
}

/** What comes, or undefined when it failed because nothing is there. */
export async function orMissing<T>(wanted: Promise<T>): Promise<T | undefined> {
  try {
    return await wanted;
  } catch (error) {
    if (error instanceof StoreError && error.missing) return undefined;
    throw error;
  }
}

/** Files read by this very process, below the roots alone. */
export class LocalFiles implements StoreFiles {
  readonly #roots: readonly string[];
  readonly #folders = new Map<string, Folder>();

  constructor(roots: readonly string[]) {
    this.#roots = roots;
  }

  async size(path: string): Promise<number> {
    const { fd, size } = this.#openNow(path);
    closeSync(fd);
    return size;
  }

  async bytes(path: string, end?: number): Promise<Buffer> {
    const { fd, size } = this.#openNow(path);
    const length = Math.min(end ?? size, size);
    try {
      assertSmall(path, length);
      return bytesOfFile(fd, length);
    } catch (error) {
      throw storeError(error, path);
    } finally {
      closeSync(fd);
    }
  }

  range(path: string, start = 0, end?: number): Readable {
    return blockStream(rangeOf(() => this.#open(path), path, start, end));
  }

  layer(tarSplit: string, folder: string): Readable {
    return blockStream(this.#assemble(tarSplit, folder));
  }

  async close(): Promise<void> {
    for (const folder of this.#folders.values()) folder.close();
    this.#folders.clear();
  }

  async *#assemble(tarSplit: string, folder: string): AsyncGenerator<Buffer> {
    const [root, name] = this.#locate(folder);
    const opened = root.folder(name);
    try {
      // The callback takes what is also thrown out of the gunzip.
      const plain = pipeline(this.range(tarSplit), createGunzip({ chunkSize: DOCUMENT_CHUNK }), () => {});
      yield* assemble(segmentsOf(plain), opened);
    } catch (error) {
      throw storeError(error, tarSplit);
    } finally {
      opened.close();
    }
  }

  async #open(path: string): Promise<OpenedFile> {
    const [root, name] = this.#locate(path);
    return root.file(name);
  }

  /** On this thread: documents are few and small, and each other thread's turn would take longer than the read. */
  #openNow(path: string): OpenedFile {
    const [root, name] = this.#locate(path);
    return root.fileNow(name);
  }

  /** The root that a path is below, and the rest of the path, latin1. Throws StoreError for any other path. */
  #locate(path: string): [Folder, string] {
    for (const root of this.#roots) {
      const name = relative(root, path);
      if (name === '' || name.startsWith('..') || isAbsolute(name)) continue;
      const folder = this.#folders.get(root) ?? Folder.at(root);
      this.#folders.set(root, folder);
      return [folder, Buffer.from(name, 'utf8').toString('latin1')];
    }
    throw new StoreError(`${path} is outside of the store`, { path });
  }
}

async function* rangeOf(
  open: () => Promise<OpenedFile>,
  path: string,
  start: number,
  end: number | undefined,
): AsyncGenerator<Buffer> {
  const { fd, size } = await open();
  try {
    yield* blocksOfFile(fd, start, end ?? size);
  } catch (error) {
    throw storeError(error, path);
  } finally {
    closeSync(fd);
  }
}
