/**
 * One blob on disk: appended to by its maker, read at any offset by its uploads. It is one file, which the cache may
 * take over, until the disk is short: from then on it goes on in segments, and those that every registry has confirmed
 * are removed. What was removed can't be sent again: a registry that loses its upload session then makes the blob fail,
 * and it is made again from its source.
 */

import { type FileHandle, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Readable } from 'node:stream';
import { LayerError, layerError } from '../common/error.ts';
import { blockStream, blocksOfPath } from './blocks.ts';
import { makePrivateFolder, PRIVATE_FILE } from './private-folder.ts';

/** The bytes [start, end) of a blob in a file of their own. */
interface Segment {
  readonly path: string;
  readonly start: number;
  end: number;
}

/** The disk that all files of a spool share: see SpoolSpace in spool.ts. */
interface SharedSpace {
  readonly maxChunk: number;
  readonly segmentBytes: number;
  readonly allowance: number;
  readonly isShort: boolean;
  add(file: SpoolFile): void;
  delete(file: SpoolFile): void;
  resized(by: number): void;
  room(ahead: () => boolean): Promise<void>;
  changed(): void;
}

export class SpoolFile {
  /** Of the first segment; of all bytes while `isComplete`. */
  readonly path: string;
  readonly #space: SharedSpace;
  /** Those that exist. The last one is written to, until `finish`. */
  readonly #segments: Segment[] = [];
  #segmentCount = 0;
  #handle: FileHandle | undefined;
  #opening: Promise<FileHandle> | undefined;
  #size = 0;
  #confirmed = 0;
  #wanted = 0;
  #finished = false;
  #kept = false;
  #removed = false;

  constructor(path: string, space: SharedSpace) {
    this.path = path;
    this.#space = space;
    space.add(this);
  }

  /** The most bytes that one request should ask for. */
  get maxChunk(): number {
    return this.#space.maxChunk;
  }

  /** Bytes that were written. */
  get size(): number {
    return this.#size;
  }

  /** The first byte that can still be read. */
  get firstByte(): number {
    return this.#segments[0]?.start ?? (this.#segmentCount > 0 ? this.#size : 0);
  }

  /** Whether all bytes are in the one file at `path`. */
  get isComplete(): boolean {
    return this.#segmentCount <= 1 && this.firstByte === 0;
  }

  /**
   * Resolves when the maker may go on. It waits while the spool is at its bound and this blob is far enough ahead of
   * its upload, but never when the upload waits for bytes that do not exist yet, however large its chunks are: else
   * each waits for the other.
   */
  room(): Promise<void> {
    return this.#space.room(() => this.#isAhead());
  }

  /** The upload wants the first `bytes` of the blob. */
  want(bytes: number): void {
    if (bytes <= this.#wanted) return;
    this.#wanted = bytes;
    this.#space.changed();
  }

  /** The first `bytes` of the blob are in every registry. */
  confirm(bytes: number): void {
    this.#confirmed = Math.max(this.#confirmed, bytes);
    if (this.#space.isShort) this.reclaim();
    this.#space.changed();
  }

  /** Removes the segments that every registry has confirmed. The spool calls it while the disk is short. */
  reclaim(): void {
    while (!this.#kept && !this.#removed) {
      const [first] = this.#segments;
      const isWritten = this.#segments.length > 1 || this.#finished;
      if (!first || !isWritten || first.end === first.start || first.end > this.#confirmed) return;
      this.#segments.shift();
      this.#space.resized(first.start - first.end);
      // What still reads it has it open; the disk's space comes back a moment later than it is counted.
      void rm(first.path, { force: true }).catch(() => undefined);
    }
  }

  /** Writes at the end. The bytes can be read when it resolves. Rejects with LayerError (disk full, removed). */
  async append(bytes: Uint8Array): Promise<void> {
    this.#expectNotRemoved();
    try {
      const handle = await this.#writable();
      const segment = this.#segments.at(-1)!;
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, segment.end - segment.start);
        at += bytesWritten;
        segment.end += bytesWritten;
        this.#size += bytesWritten;
        this.#space.resized(bytesWritten);
      }
    } catch (cause) {
      throw writeError(this.path, cause);
    }
  }

  /** The blob is complete: closes the file for writing. */
  async finish(): Promise<void> {
    this.#expectNotRemoved();
    try {
      await this.#writable();
      await this.#close();
      this.#finished = true;
    } catch (cause) {
      throw writeError(this.path, cause);
    }
  }

  /** The bytes [start, end), which must exist. Bytes that were removed are an error of the stream (LayerError). */
  read(start: number, end: number): Readable {
    return blockStream(this.#blocks(start, end));
  }

  /** Leaves the file where it is, now and when the spool is closed. Only for one that `isComplete`. */
  keep(): void {
    this.#kept = true;
  }

  /** Deletes the file unless it is kept. Does nothing the second time. */
  async remove(): Promise<void> {
    if (this.#kept || this.#removed) return;
    this.#removed = true;
    this.#space.delete(this);
    await this.#opening?.catch(() => undefined);
    await this.#close().catch(() => undefined);
    // A segment is noted when it was opened: before that, what is at a fixed path is not ours.
    const segments = this.#segments.splice(0);
    await Promise.all(segments.map(({ path }) => rm(path, { force: true })));
    this.#space.resized(segments.reduce((sum, { start, end }) => sum + start - end, 0));
  }

  async *#blocks(start: number, end: number): AsyncGenerator<Buffer> {
    for (let at = start; at < end; ) {
      const segment = this.#segments.find((one) => one.start <= at && at < one.end);
      if (!segment) throw new LayerError(`the bytes from ${at} on of ${this.path} are not on disk any more`);
      const until = Math.min(end, segment.end);
      yield* blocksOfPath(segment.path, at - segment.start, until - segment.start);
      at = until;
    }
  }

  #isAhead(): boolean {
    return !this.#removed && this.#size >= this.#wanted && this.#size - this.#confirmed > this.#space.allowance;
  }

  /** The file that the next bytes go to: the same one, unless it is full and the disk is short, or was before. */
  async #writable(): Promise<FileHandle> {
    const last = this.#segments.at(-1);
    const isFull = last !== undefined && last.end - last.start >= this.#space.segmentBytes;
    if (this.#handle && !(isFull && (this.#segmentCount > 1 || this.#space.isShort))) return this.#handle;
    await this.#close();
    const path = this.#segmentCount === 0 ? this.path : `${this.path}.${this.#segmentCount + 1}`;
    this.#opening = makePrivateFolder(dirname(path)).then(() => open(path, 'w', PRIVATE_FILE));
    this.#handle = await this.#opening;
    this.#segments.push({ path, start: this.#size, end: this.#size });
    this.#segmentCount++;
    return this.#handle;
  }

  async #close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }

  #expectNotRemoved(): void {
    if (this.#removed) throw new LayerError(`the spool file ${this.path} was removed`);
  }
}

/**
 * A registry lost its upload session, and bytes of the blob are gone that it had confirmed: the blob has to be made
 * again.
 */
export class SpoolShortError extends LayerError {
  override readonly name = 'SpoolShortError';

  constructor(name: string) {
    super(
      `${name} has to be read again: a registry lost the upload, and the disk was too small to keep what it had confirmed`,
      {
        remedy: 'free some disk space, or set RUNNER_TEMP (or TMPDIR) to a folder on a larger disk',
      },
    );
  }
}

function writeError(path: string, cause: unknown): Error {
  const full = cause instanceof Error && 'code' in cause && (cause.code === 'ENOSPC' || cause.code === 'EDQUOT');
  if (!full) return layerError(`writing the spool file ${path}`, cause);
  const remedy = 'free some disk space, or set RUNNER_TEMP (or TMPDIR) to a folder on a larger disk';
  return new LayerError(`the disk is full: writing the spool file ${path}`, { cause, remedy });
}
