/** How much disk the spool takes, and which makers have to wait for some of it. */

import type { LayerError } from './compress/error.ts';

/** What may have bytes to give back. */
interface Reclaimable {
  /** Removes what is not needed any more. */
  reclaim(): void;
}

const MIB = 1024 * 1024;

/** Two chunks of the default size (95 MB): one on the wire, and the next one complete behind it. */
const UNSENT_BYTES = 2 * 95_000_000;

export class SpoolSpace {
  /** Bytes on disk from which on a blob may only grow as far as its upload needs. */
  readonly bound: number;
  /** Bytes that a blob may be ahead of what the registries have confirmed while the bound is reached. */
  readonly allowance: number;
  /**
   * The most bytes that one request should ask for. While the bound is reached, each blob is at most two chunks ahead of its upload,
   * and a block: together they fit into what is free above the bound, where that is half of the disk.
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

  /** A file that may have something to give back when the disk is short, as long as it exists. */
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
   * Resolves when a blob may grow: there is space, or it is not far enough `ahead` of its upload to wait. Asked again whenever
   * something changed. Rejects when the spool was closed.
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
