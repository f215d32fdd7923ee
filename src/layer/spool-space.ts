/** How much disk the spool takes, and who has to wait for some of it. */
import type { LayerError } from './errors.ts';

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
