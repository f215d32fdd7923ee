/**
 * Threads that compress blocks, shared by all layers of a push: a fixed number of threads, buffers and bytes in memory.
 */

import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { LayerError } from '../../common/error.ts';
import { COMPRESSIONS, type Compression, grownBytes } from './compression.ts';

/** What a worker thread is started with. */
export interface WorkerSettings {
  readonly compression: Compression;
  readonly level: number;
  readonly bufferBytes: number;
}

/** A block on its way to a thread: the first `length` bytes of `buffer`. */
export interface Job {
  readonly id: number;
  readonly buffer: ArrayBuffer;
  readonly length: number;
}

/** The compressed block on its way back, in a buffer of the same size. */
export type Finished = Job;

interface Pending {
  resolve(block: Uint8Array<ArrayBuffer>): void;
  reject(cause: unknown): void;
}

interface Thread {
  readonly worker: Worker;
  /** Jobs that were sent to it and did not come back. */
  busy: number;
}

/** A thread that finishes a block finds the next one in its inbox, and does not wait for the main thread's turn. */
const JOBS_PER_THREAD = 2;
/**
 * The one thread that reads, hashes and writes gets through about 650 MB/s, four times what a thread compresses at gzip
 * 1 (docs/compressors.md); slower levels keep more threads busy. Each thread takes about 25 MB.
 */
const MOST_THREADS = 8;

/**
 * The bundler puts the thread's code beside the chunk that holds this file; in the source tree it is a file that Node
 * runs as it is.
 */
const WORKER_URL = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './compress-worker.js', import.meta.url);

export interface PoolOptions {
  readonly compression: Compression;
  /** One of COMPRESSIONS[compression].levels; what was measured best without it. */
  readonly level?: number;
  /** Without it the cores that this process may use, at most 8. */
  readonly threads?: number;
}

export class CompressorPool {
  readonly compression: Compression;
  readonly level: number;
  /** Bytes of a layer that go into one block. */
  readonly blockBytes: number;
  readonly #threadCount: number;
  readonly #bufferBytes: number;
  readonly #threads: Thread[] = [];
  readonly #pending = new Map<number, Pending>();
  readonly #queue: Job[] = [];
  readonly #spareBuffers: ArrayBuffer[] = [];
  readonly #slotWaiters: Array<() => void> = [];
  #freeSlots: number;
  #nextId = 0;
  #failure: Error | undefined;

  /** Throws LayerError for a level that the compression does not have. Threads start with the first block. */
  constructor(options: PoolOptions) {
    const facts = COMPRESSIONS[options.compression];
    this.compression = options.compression;
    this.level = options.level ?? facts.defaultLevel;
    const [lowest, highest] = facts.levels;
    if (!Number.isInteger(this.level) || this.level < lowest || this.level > highest) {
      const remedy = `Set compression-level to a whole number from ${lowest} to ${highest}`;
      throw new LayerError(`${options.compression} has no compression level ${this.level}`, { remedy });
    }
    this.blockBytes = facts.blockBytes;
    this.#bufferBytes = grownBytes(facts.blockBytes);
    this.#threadCount = options.threads ?? Math.min(availableParallelism(), MOST_THREADS);
    this.#freeSlots = this.#threadCount * (JOBS_PER_THREAD + 1);
  }

  /** An empty block to be filled and given to `compress`: `blockBytes` long, with whatever was in it before. */
  block(): Uint8Array<ArrayBuffer> {
    const buffer = this.#spareBuffers.pop() ?? new ArrayBuffer(this.#bufferBytes);
    return new Uint8Array(buffer, 0, this.blockBytes);
  }

  /** Takes a block back for the next one, once its bytes are written. */
  recycle(block: Uint8Array<ArrayBuffer>): void {
    if (this.#failure === undefined && block.buffer.byteLength === this.#bufferBytes)
      this.#spareBuffers.push(block.buffer);
  }

  /**
   * Resolves when one more block may be in flight; `leave` frees the place. First come, first served: a layer waits
   * with one block at a time, so a giant one takes turns with the small ones.
   */
  async enter(): Promise<void> {
    if (this.#freeSlots > 0) this.#freeSlots--;
    else await new Promise<void>((resolve) => this.#slotWaiters.push(resolve));
  }

  /** Frees the place that `enter` took. */
  leave(): void {
    const next = this.#slotWaiters.shift();
    if (next) next();
    else this.#freeSlots++;
  }

  /**
   * Compresses the block, whose buffer changes hands. Resolves to a complete gzip member or zstd frame. Rejects with
   * LayerError when a thread died.
   */
  compress(block: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#failure) return Promise.reject(this.#failure);
    const job: Job = { id: this.#nextId++, buffer: block.buffer, length: block.length };
    const result = new Promise<Uint8Array<ArrayBuffer>>((resolve, reject) =>
      this.#pending.set(job.id, { resolve, reject }),
    );
    this.#queue.push(job);
    this.#dispatch();
    return result;
  }

  /** Ends the threads. Blocks that are still in them are rejected. */
  async close(): Promise<void> {
    this.#fail(new LayerError('the compressor was closed'));
    await Promise.all(this.#threads.splice(0).map((thread) => thread.worker.terminate()));
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const thread = this.#freeThread();
      if (!thread) return;
      const job = this.#queue.shift()!;
      if (thread.busy++ === 0) thread.worker.ref();
      thread.worker.postMessage(job, [job.buffer]);
    }
  }

  #freeThread(): Thread | undefined {
    const idle = this.#threads.find((thread) => thread.busy === 0);
    if (idle) return idle;
    if (this.#threads.length < this.#threadCount) return this.#startThread();
    const [least] = this.#threads.toSorted((a, b) => a.busy - b.busy);
    return least && least.busy < JOBS_PER_THREAD ? least : undefined;
  }

  #startThread(): Thread {
    const workerData: WorkerSettings = {
      compression: this.compression,
      level: this.level,
      bufferBytes: this.#bufferBytes,
    };
    // The runner's NODE_OPTIONS and flags are of no use to a compressor, and some are not allowed in a thread.
    const worker = new Worker(WORKER_URL, { workerData, name: 'compressor', execArgv: [] });
    const thread: Thread = { worker, busy: 0 };
    worker.on('message', (finished: Finished) => this.#finish(thread, finished));
    worker.on('error', (cause) => this.#fail(new LayerError('a compressor thread failed', { cause })));
    worker.on('exit', (code) => this.#fail(new LayerError(`a compressor thread ended with code ${code}`)));
    // A thread without work keeps no process alive.
    worker.unref();
    this.#threads.push(thread);
    return thread;
  }

  #finish(thread: Thread, { id, buffer, length }: Finished): void {
    // `terminate` keeps the process alive until the thread has ended; what the thread still said must not undo that.
    if (--thread.busy === 0 && !this.#failure) thread.worker.unref();
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    this.#dispatch();
    pending?.resolve(new Uint8Array(buffer, 0, length));
  }

  #fail(error: Error): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#queue.length = 0;
    this.#spareBuffers.length = 0;
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
  }
}

// Blocks go to many threads and come back in any order; the blob needs them in theirs.

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
   * Sends a block on its way; resolves when the next one may be gathered. Room is asked for before a place among the
   * threads: a layer that is held back must not hold up the others.
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
