/**
 * An archive that comes out of a pipe or a decompressor, written into a file without a name while its entries are
 * checked: what makes it useless is noticed at its header and not when the disk is full.
 */

import { ftruncate, write } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { makePrivateFolder } from '../../blob/private-folder.ts';
import { asImageError, ImageError } from '../../common/error.ts';
import { expectDocumentSize, MAX_ENTRIES } from '../../oci/documents.ts';
import { cleanName, roleOf } from '../choose.ts';
import { RandomFile } from '../files.ts';
import { endOfBody, readHeader, TAR_BLOCK, type TarEntry } from './entry.ts';

export interface SpoolOptions {
  /** For messages: "archive image.tar.gz". */
  readonly description: string;
  /** What is done to get the bytes, for messages: "can't be decompressed (gzip)". */
  readonly failure: string;
  /** The folder for the file. It is made if it is not there. */
  readonly tempDir: string;
  /** Bytes of the compressed archive that all this comes from. */
  readonly packedSize?: number | undefined;
  readonly signal: AbortSignal;
}

/**
 * Writes a tar file's entries, up to the mark of its end, and opens what was written. Throws ImageError as soon as an
 * entry shows that this is no image, and the signal's reason.
 */
export const spoolArchive = (bytes: AsyncIterable<Buffer>, options: SpoolOptions): Promise<RandomFile> =>
  spool(bytes, options, copyEntries);

/** Writes all bytes. Throws ImageError, and the signal's reason. */
export const spoolBytes = (bytes: AsyncIterable<Buffer>, options: SpoolOptions): Promise<RandomFile> =>
  spool(bytes, options, async (copy) => {
    while ((await copy.pass(Number.MAX_SAFE_INTEGER)) > 0);
  });

async function spool(
  bytes: AsyncIterable<Buffer>,
  options: SpoolOptions,
  act: (copy: Copy, description: string) => Promise<void>,
): Promise<RandomFile> {
  const { description, tempDir, signal } = options;
  const folder = await folderIn(tempDir).catch((error) => {
    throw asImageError(error, 'Archive', `no place for the content of ${description} in ${tempDir}`);
  });
  try {
    const path = join(folder, 'archive.tar');
    const handle = await open(path, 'wx', 0o600);
    const copy = new Copy(bytes[Symbol.asyncIterator](), handle.fd, options);
    try {
      await act(copy, description);
      await copy.finish();
    } finally {
      await copy.end();
      await handle.close();
    }
    return await RandomFile.open(path);
  } catch (error) {
    signal.throwIfAborted();
    const remedy = isNoSpace(error) ? `make room in ${tempDir}` : 'save or download it again';
    throw asImageError(error, 'Archive', `${description} can't be read`, remedy);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function folderIn(tempDir: string): Promise<string> {
  await makePrivateFolder(tempDir);
  return mkdtemp(join(tempDir, 'archive-'));
}

const isNoSpace = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOSPC';

/** After the mark of its end an archive is filled up to a record; 10 KiB by default, at most this. Bytes. */
const MAX_PADDING = 1024 * 1024;

async function copyEntries(copy: Copy, description: string): Promise<void> {
  let position = 0;
  let count = 0;
  for (;;) {
    const entry = await readHeader(() => copy.take(TAR_BLOCK), position);
    if (!entry) break;
    count += 1;
    checkEntry(entry, count, description);
    const end = endOfBody(entry);
    // One that is cut off is reported by its reader.
    await copy.pass(end - entry.body);
    position = end;
  }
  if (count === 0) throw new ImageError('Archive', `${description} can't be read: it has no entries`);
  await copy.drop(MAX_PADDING);
}

function checkEntry(entry: TarEntry, count: number, description: string): void {
  if (count > MAX_ENTRIES) throw new ImageError('Archive', `${description} has more than ${MAX_ENTRIES} entries`);
  if (!entry.isFile) return;
  const name = cleanName(entry.name);
  const { role } = roleOf(name);
  if (role === 'list' || role === 'config') expectDocumentSize(entry.size, `${name} in ${description}`);
}

const writeFile = promisify(write);
const truncateFile = promisify(ftruncate);

/**
 * Zeros of at least a block of the file system are left out: the file has a hole there, which takes no room on disk.
 * Bytes.
 */
const HOLE = 4096;
const ZEROS = Buffer.alloc(64 * 1024);

/** Content that is no zeros may be written up to this, whatever it is compressed to. Bytes. */
const UNSUSPICIOUS = 256 * 1024 * 1024;
/** Real layers compress to a half or a fifth, logs and tables to a fiftieth. */
const MAX_RATIO = 200;

class Copy {
  readonly #bytes: AsyncIterator<Buffer>;
  readonly #fd: number;
  readonly #options: SpoolOptions;
  #chunk: Buffer = Buffer.alloc(0);
  #position = 0;
  #written = 0;

  constructor(bytes: AsyncIterator<Buffer>, fd: number, options: SpoolOptions) {
    this.#bytes = bytes;
    this.#fd = fd;
    this.#options = options;
  }

  /** Copies and returns the next bytes, fewer at the end. */
  async take(count: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    await this.#move(count, async (part) => {
      parts.push(part);
      await this.#write(part);
    });
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  }

  /** Copies the next bytes, and returns their number: fewer at the end. */
  pass(count: number): Promise<number> {
    return this.#move(count, (part) => this.#write(part));
  }

  /** Reads the next bytes, and copies none. */
  drop(count: number): Promise<number> {
    return this.#move(count, async () => {});
  }

  /** Returns the file its size, with a hole at its end. */
  finish(): Promise<void> {
    return truncateFile(this.#fd, this.#position);
  }

  async end(): Promise<void> {
    await this.#bytes.return?.().then(undefined, () => {});
  }

  async #move(count: number, act: (part: Buffer) => Promise<void>): Promise<number> {
    let left = count;
    while (left > 0 && (this.#chunk.length > 0 || (await this.#next()))) {
      const part = this.#chunk.subarray(0, left);
      this.#chunk = this.#chunk.subarray(part.length);
      left -= part.length;
      await act(part);
    }
    return count - left;
  }

  async #next(): Promise<boolean> {
    const { description, failure, signal } = this.#options;
    try {
      signal.throwIfAborted();
      const { done, value } = await this.#bytes.next();
      this.#chunk = done ? Buffer.alloc(0) : value;
      return !done && (value.length > 0 || this.#next());
    } catch (error) {
      signal.throwIfAborted();
      throw asImageError(
        error,
        'Archive',
        `${description} ${failure}`,
        'the file is damaged: save or download it again',
      );
    }
  }

  async #write(part: Buffer): Promise<void> {
    for (let start = 0; start < part.length; ) {
      const block = part.subarray(start, start + ZEROS.length);
      const isHole = block.length >= HOLE && block.equals(ZEROS.subarray(0, block.length));
      if (!isHole) await this.#writeData(block);
      this.#position += block.length;
      start += block.length;
    }
  }

  async #writeData(block: Buffer): Promise<void> {
    const { description, packedSize } = this.#options;
    this.#written += block.length;
    if (packedSize !== undefined && this.#written > UNSUSPICIOUS && this.#written > packedSize * MAX_RATIO) {
      const text = `${description} has ${packedSize} bytes and unpacks to more than ${MAX_RATIO} times as many: this is no image`;
      throw new ImageError('Archive', text);
    }
    for (let done = 0; done < block.length; ) {
      const { bytesWritten } = await writeFile(this.#fd, block, done, block.length - done, this.#position + done);
      done += bytesWritten;
    }
  }
}
