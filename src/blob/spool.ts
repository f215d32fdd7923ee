/**
 * The folder where blobs wait for the wire: made once, read as often as a request is repeated, removed when the
 * registries have them.
 */

import { rmdir, statfs } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { LayerError } from '../common/error.ts';
import { DEFAULT_CHUNK_SIZE } from './blob.ts';
import { makePrivateFolder, removeAbandoned } from './private-folder.ts';
import { SpoolFile } from './spool-file.ts';

/** Half of the free disk: the engine, its exporter's temporary files and the job's other steps live on the same one. */
const SHARE_OF_FREE_DISK = 0.5;

/** What a push may upload at once without a setting (the input `concurrency`). */
const UPLOADS = 5;

interface SpoolOptions {
  /** Bytes on disk from which on makers are held back to what their uploads need; without it, half of the free disk. */
  readonly bound?: number | undefined;
  /** Blobs that are uploaded at once, each of which needs room for a chunk although the bound is reached. */
  readonly uploads?: number | undefined;
}

export class Spool {
  /** Absolute. */
  readonly dir: string;
  readonly #space: SpoolSpace;
  readonly #files: SpoolFile[] = [];
  readonly #madeHere: boolean;

  private constructor(dir: string, space: SpoolSpace, madeHere: boolean) {
    this.dir = dir;
    this.#space = space;
    this.#madeHere = madeHere;
  }

  /**
   * Opens (makes) the folder, for this user alone, and removes those beside it whose process was killed. `dir` is
   * `ownName` of SPOOL_PREFIX, or any folder. Throws LayerError when the folder can't be made, or is not safe to use.
   */
  static async open(dir: string, options: SpoolOptions = {}): Promise<Spool> {
    const folder = resolve(dir);
    try {
      await makePrivateFolder(dirname(folder));
      await removeAbandoned(dirname(folder), SPOOL_PREFIX);
      const { made } = await makePrivateFolder(folder);
      const bound = options.bound ?? (await freeBytes(folder)) * SHARE_OF_FREE_DISK;
      return new Spool(folder, new SpoolSpace(bound, options.uploads ?? UPLOADS), made);
    } catch (cause) {
      if (cause instanceof LayerError) throw cause;
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

/** How the names of spool folders begin, so that those of killed pushes are found. */
export const SPOOL_PREFIX = 'spool-';

async function freeBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  return bavail * bsize;
}

// How much disk the spool takes, and which makers have to wait for some of it.

/** What may have bytes to free. */
interface Reclaimable {
  /** Removes what is not needed any more. */
  reclaim(): void;
}

const MIB = 1024 * 1024;

/** Two chunks: one on the wire, and the next one complete behind it. */
const UNSENT_BYTES = 2 * DEFAULT_CHUNK_SIZE;

class SpoolSpace {
  /** Bytes on disk from which on a blob may only grow as far as its upload needs. */
  readonly bound: number;
  /** Bytes that a blob may be ahead of what the registries have confirmed while the bound is reached. */
  readonly allowance: number;
  /**
   * The most bytes that one request should ask for. While the bound is reached, each blob is at most two chunks ahead
   * of its upload, and a block: together they fit into what is free above the bound, where that is half of the disk.
   */
  readonly maxChunk: number;
  /** Bytes after which a blob goes on in another file while the disk is short. */
  readonly segmentBytes: number;
  readonly #files = new Set<Reclaimable>();
  #bytes = 0;
  #peak = 0;
  #closed: LayerError | undefined;
  #waiters: Array<() => void> = [];

  constructor(bound: number, uploads: number) {
    this.bound = bound;
    this.maxChunk = Math.max(MIB, Math.floor(bound / (3 * uploads)));
    this.allowance = Math.min(UNSENT_BYTES, 2 * this.maxChunk);
    this.segmentBytes = Math.max(MIB, Math.floor(this.maxChunk / 2));
  }

  /** Bytes on disk now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The most bytes that were ever on disk at once. */
  get peak(): number {
    return this.#peak;
  }

  /** Whether the bound is reached. */
  get isShort(): boolean {
    return this.#bytes >= this.bound;
  }

  /** A file that may have bytes to free when the disk is short, as long as it exists. */
  add(file: Reclaimable): void {
    this.#files.add(file);
  }

  delete(file: Reclaimable): void {
    this.#files.delete(file);
  }

  /** Counts bytes that were written, or (negative) removed. */
  resized(by: number): void {
    this.#bytes += by;
    this.#peak = Math.max(this.#peak, this.#bytes);
    if (by < 0) this.changed();
  }

  /**
   * Resolves when a blob may grow: there is space, or it is not far enough `ahead` of its upload to wait. Asked again
   * whenever something changed. Rejects when the spool was closed.
   */
  async room(ahead: () => boolean): Promise<void> {
    for (;;) {
      if (this.isShort) for (const file of this.#files) file.reclaim();
      if (this.#closed || !this.isShort || !ahead()) break;
      await new Promise<void>((wake) => this.#waiters.push(wake));
    }
    if (this.#closed) throw this.#closed;
  }

  /** Lets all that wait look again. */
  changed(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }

  /** From now on nothing gets room. */
  close(error: LayerError): void {
    this.#closed ??= error;
    this.changed();
  }
}
