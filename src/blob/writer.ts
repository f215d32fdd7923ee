/**
 * What compressing a layer and passing one through have in common: gathered input, a spool file, those who wait, and
 * one way to fail.
 */

import { createHash } from 'node:crypto';
import { LayerError, layerError } from '../common/error.ts';
import type { BlobIdentity, Reach } from './blob.ts';
import { Gatherer, type Input, Times } from './blocks.ts';
import type { SpoolFile } from './spool-file.ts';

interface BlobWriterOptions {
  /** What messages call it: "layer sha256:…". */
  readonly name: string;
  readonly signal: AbortSignal;
  readonly onProgress?: ((read: number, written: number) => void) | undefined;
}

export class BlobWriter {
  readonly growth = new Growth();
  readonly times = new Times();
  readonly file: SpoolFile;
  readonly name: string;
  readonly #input: Input;
  readonly #options: BlobWriterOptions;
  readonly #digest = createHash('sha256');
  #read = 0;

  constructor(input: Input, file: SpoolFile, options: BlobWriterOptions) {
    this.#input = input;
    this.file = file;
    this.name = options.name;
    this.#options = options;
    // A stream that breaks while it is not read (held back) rejects the next read; without a listener it would end the
    // process.
    input.on('error', () => undefined);
  }

  /** Bytes of the input that were gathered into blocks. */
  get read(): number {
    return this.#read;
  }

  /**
   * Runs the work to its end, whichever that is: the blob is complete and passed its check, or all waiting readers are
   * rejected.
   */
  async run(work: () => Promise<void>, check: (made: BlobIdentity) => void = () => undefined): Promise<void> {
    const { signal } = this.#options;
    const cancel = () => this.stop(layerError(`${this.name} was cancelled`, signal.reason));
    signal.addEventListener('abort', cancel, { once: true });
    if (signal.aborted) cancel();
    try {
      await work();
      await this.file.finish();
      const identity: BlobIdentity = { digest: `sha256:${this.#digest.digest('hex')}`, size: this.file.size };
      check(identity);
      this.growth.end(identity);
    } catch (cause) {
      this.stop(layerError(`reading ${this.name}`, cause));
    } finally {
      signal.removeEventListener('abort', cancel);
      this.times.end();
    }
  }

  /** Ends the making with an error (the first one counts) and the input with it. */
  stop(error: Error): void {
    if (this.growth.isOver) return;
    this.growth.fail(error);
    this.#input.destroy();
    // A maker that waits for room goes on, and finds that it is over.
    this.file.want(Number.POSITIVE_INFINITY);
  }

  /** Bytes that an upload needs again are gone: rejects all that wait, also when the blob was complete. */
  lose(error: Error): void {
    if (this.growth.identity) this.growth.lose(error);
    else this.stop(error);
  }

  /** The input in blocks as long as those that `take` returns, but for the last one. No empty block. */
  async *blocks(take: () => Uint8Array<ArrayBuffer>): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    const input = new Gatherer(this.#input, this.times);
    try {
      for (let ended = false; !ended; ) {
        const block = take();
        const filled = await input.fill(block);
        ended = filled < block.length;
        if (filled > 0) yield this.#gathered(ended ? block.subarray(0, filled) : block);
      }
    } finally {
      await input.end();
    }
  }

  /** Resolves when the spool has room for more. */
  async room(): Promise<void> {
    await this.times.heldBack(this.file.room());
    if (this.growth.isOver) throw new LayerError(`${this.name} was cancelled`);
  }

  /** The next bytes of the blob: to the file, to the digest, to those who wait. */
  async put(bytes: Uint8Array): Promise<void> {
    const written = this.file.append(bytes);
    // While the disk writes.
    this.#digest.update(bytes);
    await written;
    this.growth.grow(this.file.size);
    this.#options.onProgress?.(this.#read, this.file.size);
  }

  #gathered(block: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    this.#read += block.length;
    this.#options.onProgress?.(this.#read, this.file.size);
    return block;
  }
}

interface Waiter {
  readonly bytes: number;
  resolve(reach: Reach): void;
  reject(cause: unknown): void;
}

/** How far a blob that is being made has come, for all who wait for it. */
class Growth {
  #available = 0;
  #identity: BlobIdentity | undefined;
  #failure: { readonly cause: unknown } | undefined;
  #waiters: Waiter[] = [];
  readonly #completed = Promise.withResolvers<BlobIdentity>();

  constructor() {
    // A failure that is not awaited (the push ended for another reason) is not an unhandled rejection.
    this.#completed.promise.catch(() => undefined);
  }

  /** Set when the blob is complete. */
  get identity(): BlobIdentity | undefined {
    return this.#identity;
  }

  /** Whether it is complete or has failed. */
  get isOver(): boolean {
    return this.#identity !== undefined || this.#failure !== undefined;
  }

  /** `available` bytes exist now. */
  grow(available: number): void {
    this.#available = available;
    this.#notify();
  }

  /** There will be no more. */
  end(identity: BlobIdentity): void {
    if (this.isOver) return;
    this.#identity = identity;
    this.#completed.resolve(identity);
    this.#notify();
  }

  /** Rejects all who wait or will wait. The first failure counts. */
  fail(cause: unknown): void {
    if (this.isOver) return;
    this.#failure = { cause };
    this.#completed.reject(cause);
    for (const waiter of this.#waiters.splice(0)) waiter.reject(cause);
  }

  /** Bytes that were there are gone: as `fail`, also after the end. */
  lose(cause: unknown): void {
    this.#identity = undefined;
    this.fail(cause);
  }

  /** Resolves as soon as `bytes` exist or the blob has ended; rejects when it failed. */
  reach(bytes: number): Promise<Reach> {
    if (this.#failure) return Promise.reject(this.#failure.cause);
    const now = { available: this.#available, ended: this.#identity !== undefined };
    if (now.ended || now.available >= bytes) return Promise.resolve(now);
    return new Promise((resolve, reject) => this.#waiters.push({ bytes, resolve, reject }));
  }

  /** Resolves at the blob's end; rejects when it failed. */
  completed(): Promise<BlobIdentity> {
    return this.#failure ? Promise.reject(this.#failure.cause) : this.#completed.promise;
  }

  #notify(): void {
    const now = { available: this.#available, ended: this.#identity !== undefined };
    const waiting = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiting) {
      if (now.ended || now.available >= waiter.bytes) waiter.resolve(now);
      else this.#waiters.push(waiter);
    }
  }
}
