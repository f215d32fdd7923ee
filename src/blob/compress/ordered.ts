/** Blocks go to many threads and come back in any order; the blob needs them in theirs. */
import type { CompressorPool } from './pool.ts';

/** Where the compressed blocks go, one after the other. */
interface Sink {
  room(): Promise<void>;
  put(bytes: Uint8Array): Promise<void>;
  stop(error: Error): void;
}

export class OrderedCompressor {
  readonly #sink: Sink;
  readonly #pool: CompressorPool;
  #last: Promise<void> = Promise.resolve();

  constructor(sink: Sink, pool: CompressorPool) {
    this.#sink = sink;
    this.#pool = pool;
  }

  /**
   * Sends a block on its way; resolves when the next one may be gathered. Room is asked for before a place among the threads:
   * a layer that is held back must not hold up the others.
   */
  async submit(block: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.#sink.room();
    await this.#pool.enter();
    this.#last = this.#through(block, this.#last);
    // Seen at once, not when the input comes to its end.
    this.#last.catch((error: Error) => this.#sink.stop(error));
  }

  /** Resolves when all blocks that were submitted are written. */
  async drained(): Promise<void> {
    await this.#last;
  }

  async #through(block: Uint8Array<ArrayBuffer>, before: Promise<void>): Promise<void> {
    try {
      const compressed = await this.#pool.compress(block);
      await before;
      await this.#sink.put(compressed);
      this.#pool.recycle(compressed);
    } finally {
      this.#pool.leave();
    }
  }
}
