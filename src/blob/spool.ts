/** The folder where layers wait for the wire: made once, read as often as a request is repeated, removed when the registry has them. */

import { type FileHandle, mkdir, open, rm, rmdir, statfs } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { fileStream } from './blocks.ts';
import { LayerError, layerError } from './compress/error.ts';

/** Half of the free disk: the engine, its exporter's temporary files and the job's other steps live on the same one. */
const SHARE_OF_FREE_DISK = 0.5;

export class Spool {
  /** Absolute. */
  readonly dir: string;
  readonly #space: SpoolSpace;
  readonly #files: SpoolFile[] = [];
  readonly #madeHere: boolean;

  private constructor(dir: string, bound: number, madeHere: boolean) {
    this.dir = dir;
    this.#space = new SpoolSpace(bound);
    this.#madeHere = madeHere;
  }

  /**
   * Opens (makes) the folder. From `bound` bytes on disk on, makers are held back to what their uploads need; without it, half
   * of the free disk. Throws LayerError when the folder can't be made.
   */
  static async open(dir: string, options: { readonly bound?: number | undefined } = {}): Promise<Spool> {
    const folder = resolve(dir);
    try {
      const made = await mkdir(folder, { recursive: true });
      const bound = options.bound ?? (await freeBytes(folder)) * SHARE_OF_FREE_DISK;
      return new Spool(folder, bound, made !== undefined);
    } catch (cause) {
      const remedy = 'set RUNNER_TEMP (or TMPDIR) to a folder that this process may write';
      throw new LayerError(`making the spool folder ${folder}`, { cause, remedy });
    }
  }

  /** Bytes of all spool files that exist now, the kept ones too. */
  get bytesOnDisk(): number {
    return this.#space.bytes;
  }

  /** The most bytes that were ever on disk at once. */
  get peakBytes(): number {
    return this.#space.peak;
  }

  /** A new file; at `path` when the cache wants it in a fixed place, over whatever is there. */
  file(path?: string): SpoolFile {
    const name = `layer-${process.pid}-${this.#files.length + 1}.blob`;
    const file = new SpoolFile(path === undefined ? join(this.dir, name) : resolve(path), this.#space);
    this.#files.push(file);
    return file;
  }

  /** Ends all makers and removes every file that is not kept, and the folder if it was made here and is empty. */
  async close(): Promise<void> {
    this.#space.close(new LayerError('the spool was closed'));
    await Promise.all(this.#files.map((file) => file.remove()));
    // Not empty: the cache keeps files in it.
    if (this.#madeHere) await rmdir(this.dir).catch(() => undefined);
  }
}

async function freeBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  return bavail * bsize;
}

/** How much disk the spool takes, and who has to wait for some of it. */

/** Two chunks of the default size (95 MB): one on the wire, and the next one complete behind it. */
const UNSENT_BYTES = 2 * 95_000_000;

export class SpoolSpace {
  /** Bytes on disk from which on a blob may only grow as far as its upload needs. */
  readonly bound: number;
  /** Bytes that a blob may be ahead of what the registries have confirmed while the bound is reached. */
  readonly allowance: number;
  #bytes = 0;
  #peak = 0;
  #closed: LayerError | undefined;
  #waiters: Array<() => void> = [];

  constructor(bound: number) {
    this.bound = bound;
    this.allowance = Math.min(UNSENT_BYTES, bound);
  }

  /** Bytes on disk now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The most bytes that were ever on disk at once. */
  get peak(): number {
    return this.#peak;
  }

  /** Counts bytes that were written, or (negative) removed. */
  resized(by: number): void {
    this.#bytes += by;
    this.#peak = Math.max(this.#peak, this.#bytes);
    if (by < 0) this.changed();
  }

  /**
   * Resolves when a blob may grow: there is space, or it is not far enough `ahead` of its upload to wait. Asked again whenever
   * something changed. Rejects when the spool was closed.
   */
  async room(ahead: () => boolean): Promise<void> {
    while (!this.#closed && this.#bytes >= this.bound && ahead()) {
      await new Promise<void>((wake) => this.#waiters.push(wake));
    }
    if (this.#closed) throw this.#closed;
  }

  /** Lets everybody who waits look again. */
  changed(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }

  /** From now on nobody gets room. */
  close(error: LayerError): void {
    this.#closed ??= error;
    this.changed();
  }
}

/** One blob on disk: appended to by its maker, read at any offset by its uploads. */

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
