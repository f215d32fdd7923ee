/** One blob on disk: appended to by its maker, read at any offset by its uploads. */
import { type FileHandle, mkdir, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Readable } from 'node:stream';
import { fileStream } from '../blocks.ts';
import { LayerError, layerError } from './errors.ts';
import type { SpoolSpace } from './spool-space.ts';

export class SpoolFile {
  readonly path: string;
  readonly #space: SpoolSpace;
  #opening: Promise<FileHandle> | undefined;
  #size = 0;
  #confirmed = 0;
  #wanted = 0;
  #kept = false;
  #removed = false;

  constructor(path: string, space: SpoolSpace) {
    this.path = path;
    this.#space = space;
  }

  /** Bytes that are on disk and can be read. */
  get size(): number {
    return this.#size;
  }

  /**
   * Resolves when the maker may go on. It waits while the spool is at its bound and this blob is far enough ahead of its upload,
   * but never when the upload waits for bytes that do not exist yet, however large its chunks are: nobody waits for each other.
   */
  room(): Promise<void> {
    return this.#space.room(() => this.#ahead());
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
    this.#space.changed();
  }

  /** Writes at the end. The bytes can be read when it resolves. Rejects with LayerError (disk full, removed). */
  async append(bytes: Uint8Array): Promise<void> {
    if (this.#removed) throw new LayerError(`the spool file ${this.path} was removed`);
    try {
      const handle = await this.#open();
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, this.#size);
        at += bytesWritten;
        this.#size += bytesWritten;
        this.#space.resized(bytesWritten);
      }
    } catch (cause) {
      throw writeError(this.path, cause);
    }
  }

  /** The blob is complete: closes the file for writing. */
  async finish(): Promise<void> {
    if (this.#removed) throw new LayerError(`the spool file ${this.path} was removed`);
    try {
      const handle = await this.#open();
      await handle.close();
    } catch (cause) {
      throw writeError(this.path, cause);
    }
  }

  /** The bytes [start, end), which must exist. */
  read(start: number, end: number): Readable {
    return fileStream(this.path, start, end);
  }

  /** Leaves the file where it is, now and when the spool is closed. */
  keep(): void {
    this.#kept = true;
  }

  /** Deletes the file unless it is kept. Does nothing the second time. */
  async remove(): Promise<void> {
    if (this.#kept || this.#removed) return;
    this.#removed = true;
    const handle = await this.#opening?.catch(() => undefined);
    await handle?.close().catch(() => undefined);
    // Never opened: what is at a fixed path is not ours.
    if (handle) await rm(this.path, { force: true });
    this.#space.resized(-this.#size);
  }

  #ahead(): boolean {
    return !this.#removed && this.#size >= this.#wanted && this.#size - this.#confirmed > this.#space.allowance;
  }

  #open(): Promise<FileHandle> {
    this.#opening ??= mkdir(dirname(this.path), { recursive: true }).then(() => open(this.path, 'w'));
    return this.#opening;
  }
}

function writeError(path: string, cause: unknown): Error {
  const full = cause instanceof Error && 'code' in cause && (cause.code === 'ENOSPC' || cause.code === 'EDQUOT');
  if (!full) return layerError(`writing the spool file ${path}`, cause);
  const remedy = 'free some disk space, or set RUNNER_TEMP (or TMPDIR) to a folder on a larger disk';
  return new LayerError(`the disk is full: writing the spool file ${path}`, { cause, remedy });
}
