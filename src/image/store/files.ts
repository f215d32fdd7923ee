/** How a store's files are read: by this process, or by a helper that may do more (remote-files.ts). */
import { closeSync } from 'node:fs';
import { isAbsolute, relative } from 'node:path';
import { pipeline, type Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { blockStream, blocksOfFile } from '../../blocks.ts';
import { assemble } from './assemble.ts';
import { StoreError, storeError } from './errors.ts';
import { Folder, type OpenedFile } from './folder.ts';
import { piecesOf } from './tar-split.ts';

/** Bytes of a tar-split file at once: it is compressed text, and unpacked in small pieces it is gone with the next small collection. */
const DOCUMENT_CHUNK = 64 * 1024;
/** The longest document read into memory: Podman's list of all layers is the largest, some hundred bytes a layer. */
const LONGEST_DOCUMENT = 64 * 2 ** 20;

/** Reads below some roots. Paths are absolute; streams and promises fail with StoreError. */
export interface StoreFiles {
  /** A file's length in bytes; fails when it cannot be opened for reading. */
  size(path: string): Promise<number>;
  /** The bytes [start, end) of a file, to its end without `end`. */
  range(path: string, start?: number, end?: number): Readable;
  /** A layer's tar, put together from its tar-split file (gzip) and the folder that it was unpacked to. */
  layer(tarSplit: string, folder: string): Readable;
  close(): Promise<void>;
}

/** A small file in memory. Throws StoreError. */
export async function readDocument(files: StoreFiles, path: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of files.range(path)) {
    size += chunk.length;
    if (size > LONGEST_DOCUMENT) throw new StoreError(`${path} is longer than ${LONGEST_DOCUMENT} bytes`, { path });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** A small file in memory; undefined when it is not there. Throws StoreError for all else. */
export async function findDocument(files: StoreFiles, path: string): Promise<Buffer | undefined> {
  return orMissing(readDocument(files, path));
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
    const { fd, size } = await this.#open(path);
    closeSync(fd);
    return size;
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
      yield* assemble(piecesOf(plain), opened);
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
