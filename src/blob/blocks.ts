/**
 * Buffers that files are read into, used again. A layer of a gigabyte is four thousand of them: left to the garbage
 * collector, which does not feel their size, dozens are in memory at once, each new one costs the system fresh pages,
 * and V8 marks its complete heap for every 20 MB of them: that was a sixth of the CPU time of a push by zstd.
 */

import { close, open, read, readSync } from 'node:fs';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { now } from '../common/async.ts';

/** Bytes of a block: large reads for large files, hundreds of small files side by side. */
export const BLOCK_SIZE = 256 * 1024;

/**
 * Kept for those who take next. 16 of them, and three blocks read ahead of a layer in a store, made the peak of a push of
 * 1.7 GB by zstd 200 MB in place of 186, in the same time.
 */
const MOST_SPARE = 8;

const spare: Buffer[] = [];

/** A block with whatever was in it before. */
export const takeBlock = (): Buffer => spare.pop() ?? Buffer.allocUnsafeSlow(BLOCK_SIZE);

/** Takes a chunk's memory for the next block, if it is a block. The chunk must not be used afterwards. */
export function recycleBlock({ buffer }: Buffer): void {
  if (buffer.byteLength === BLOCK_SIZE && spare.length < MOST_SPARE) spare.push(Buffer.from(buffer));
}

/** A byte stream that takes its chunks back; a reader that is through with one may say so, once. */
type BlockStream = Readable & { recycle(chunk: Buffer): void };

/**
 * A byte stream out of blocks. One at a time: Node joins what waits in a stream into a new buffer for those who iterate
 * over it.
 */
export const blockStream = (blocks: AsyncIterable<Buffer>): BlockStream =>
  Object.assign(Readable.from(blocks, { objectMode: false, highWaterMark: 1 }), { recycle: recycleBlock });

/** Reads the next bytes into a block and returns their number: less than fit in only at the end. */
type Fill = (into: Uint8Array) => Promise<number>;

/** A byte stream, or, in its place, bytes read straight into whatever the reader has. */
export type FillStream = BlockStream & { readonly fill: Fill };

/** A stream that closes at its end, whichever way it is read. */
export function fillStream(fill: Fill): FillStream {
  const stream = blockStream(blocksOf(fill));
  const fillAndClose = async (into: Uint8Array): Promise<number> => {
    const count = await fill(into);
    if (count < into.length) stream.destroy();
    return count;
  };
  return Object.assign(stream, { fill: fillAndClose });
}

async function* blocksOf(fill: Fill): AsyncGenerator<Buffer> {
  for (let ended = false; !ended; ) {
    const block = takeBlock();
    const count = await fill(block);
    ended = count < block.length;
    if (count > 0) yield block.subarray(0, count);
  }
}

/** The bytes [start, end) of an open file, which the caller closes afterwards. */
export function openFileStream(fd: number, start: number, end: number): FillStream {
  let position = start;
  const fill = async (into: Uint8Array): Promise<number> => {
    const wanted = into.subarray(0, Math.max(0, end - position));
    for (let filled = 0; filled < wanted.length; ) {
      const count = await readSome(fd, wanted.subarray(filled), position);
      filled += count;
      position += count;
    }
    return wanted.length;
  };
  return Object.assign(blockStream(blocksOfFile(fd, start, end)), { fill });
}

/**
 * The bytes [start, end) of an open file, in blocks. Throws what the system says, and an Error when the file ends
 * before.
 */
export async function* blocksOfFile(fd: number, start: number, end: number): AsyncGenerator<Buffer> {
  for (let position = start; position < end; ) {
    const length = Math.min(BLOCK_SIZE, end - position);
    const buffer = length === BLOCK_SIZE ? takeBlock() : Buffer.allocUnsafeSlow(length);
    const count = await readSome(fd, buffer, position);
    yield buffer.subarray(0, count);
    position += count;
  }
}

/** The first `length` bytes of a small open file, at once; the caller closes it. Throws as `blocksOfFile` does. */
export function bytesOfFile(fd: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(length);
  for (let filled = 0; filled < length; ) {
    const count = readSync(fd, bytes, filled, length - filled, filled);
    if (count === 0) throw endsAt(filled);
    filled += count;
  }
  return bytes;
}

const openFile = promisify(open);
const closeFile = promisify(close);

/** The bytes [start, end) of the file at a path as a stream, opened when they are first asked for. */
export function fileStream(path: string, start: number, end: number): BlockStream {
  return blockStream(blocksOfPath(path, start, end));
}

/** The bytes [start, end) of the file at a path, in blocks. Throws as `blocksOfFile` does. */
export async function* blocksOfPath(path: string, start: number, end: number): AsyncGenerator<Buffer> {
  const fd = await openFile(path, 'r');
  try {
    yield* blocksOfFile(fd, start, end);
  } finally {
    await closeFile(fd);
  }
}

function readSome(fd: number, into: Uint8Array, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(fd, into, 0, into.length, position, (error, count) => {
      if (error) reject(error);
      else if (count === 0) reject(endsAt(position));
      else resolve(count);
    });
  });
}

const endsAt = (bytes: number): Error => new Error(`it ends at ${bytes} bytes`);

// The input of a layer in blocks: a stream's chunks put together, or a file's bytes read straight into their place.

/**
 * A layer's bytes. A stream that uses its buffers again learns when a chunk was copied; one of a file may fill complete
 * blocks.
 */
export type Input = Readable & {
  recycle?(chunk: Buffer): void;
  /**
   * Reads the next bytes into a block, without a copy, and returns their number: less than fit in only at the end.
   * Instead of reading the stream.
   */
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

  /**
   * Fills a block and returns the number of bytes: less than fit in only at the end of the input. Rejects with the
   * input's error.
   */
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
