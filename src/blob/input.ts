/** The input of a layer in blocks: a stream's chunks put together, or a file's bytes read straight into their place. */

import type { Readable } from 'node:stream';
import { now } from '../common/async.ts';

/** A layer's bytes. A stream that uses its buffers again learns when a chunk was copied; one of a file may fill whole blocks. */
export type Input = Readable & {
  recycle?(chunk: Buffer): void;
  /** Reads the next bytes into a block, without a copy, and returns their number: less than fit in only at the end. Instead of reading the stream. */
  fill?(block: Uint8Array): Promise<number>;
};

export class Gatherer {
  readonly #input: Input;
  readonly #times: Times;
  readonly #chunks: AsyncIterator<Buffer> | undefined;
  /** The chunk that the last block had no room for, and how much of it was taken. */
  #chunk: Buffer | undefined;
  #taken = 0;

  /** `times` counts how long the input lets us wait. */
  constructor(input: Input, times: Times) {
    this.#input = input;
    this.#times = times;
    this.#chunks = input.fill ? undefined : (input as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  }

  /** Fills a block and returns the number of bytes: less than fit in only at the end of the input. Rejects with the input's error. */
  async fill(block: Uint8Array): Promise<number> {
    if (!this.#chunks) return this.#times.waitedForInput(this.#input.fill!(block));
    let filled = 0;
    while (filled < block.length && (await this.#hasChunk(this.#chunks))) filled += this.#take(block.subarray(filled));
    return filled;
  }

  /** Nothing more is wanted. */
  async end(): Promise<void> {
    await this.#chunks?.return?.();
  }

  async #hasChunk(chunks: AsyncIterator<Buffer>): Promise<boolean> {
    while (!this.#chunk) {
      const { done, value } = await this.#times.waitedForInput(chunks.next());
      if (done) return false;
      if (value.length > 0) this.#chunk = value;
    }
    return true;
  }

  #take(room: Uint8Array): number {
    const chunk = this.#chunk!;
    const part = chunk.subarray(this.#taken, this.#taken + room.length);
    room.set(part);
    this.#taken += part.length;
    if (this.#taken === chunk.length) {
      this.#chunk = undefined;
      this.#taken = 0;
      this.#input.recycle?.(chunk);
    }
    return part.length;
  }
}

/** Where the time of one blob in the making goes, so that a user sees what bounds a push. */
export class Times {
  readonly #start = now();
  #end: number | undefined;
  #waiting = 0;
  #held = 0;

  /** ms in which the input had no bytes. */
  get waitingForInputMs(): number {
    return this.#waiting;
  }

  /** ms in which the spool was at its bound: the wire is the slowest part. */
  get heldBackMs(): number {
    return this.#held;
  }

  /** All other ms: hashing, compressing, writing, and waiting for a turn at the threads. */
  get compressingMs(): number {
    return Math.max(0, (this.#end ?? now()) - this.#start - this.#waiting - this.#held);
  }

  /** The blob is complete or has failed. */
  end(): void {
    this.#end ??= now();
  }

  /** Passes a promise on and counts its time as held back. */
  async heldBack<T>(promise: Promise<T>): Promise<T> {
    const since = now();
    try {
      return await promise;
    } finally {
      this.#held += now() - since;
    }
  }

  /** Passes a promise of the input's on and counts its time as waiting for it. */
  async waitedForInput<T>(promise: Promise<T>): Promise<T> {
    const since = now();
    try {
      return await promise;
    } finally {
      this.#waiting += now() - since;
    }
  }
}
