/**
 * Buffers that files are read into, used again. A layer of a gigabyte is four thousand of them: left to the garbage collector, which does not
 * feel their size, dozens are in memory at once, and each new one costs the system fresh pages.
 */
import { Readable } from 'node:stream';

/** Bytes of a block: large reads for large files, hundreds of small files side by side. */
export const BLOCK_SIZE = 256 * 1024;

/** More than the streams of a push give back before they take again. */
const MOST_SPARE = 16;

const spare: Buffer[] = [];

/** A block with whatever was in it before. */
export const takeBlock = (): Buffer => spare.pop() ?? Buffer.allocUnsafeSlow(BLOCK_SIZE);

/** Takes a chunk's memory for the next block, if it is a block. Nobody may look at the chunk afterwards. */
function giveBack({ buffer }: Buffer): void {
  if (buffer.byteLength === BLOCK_SIZE && spare.length < MOST_SPARE) spare.push(Buffer.from(buffer));
}

/** A byte stream that takes its chunks back; a reader that is through with one may say so, once. */
export type BlockStream = Readable & { recycle(chunk: Buffer): void };

/** A byte stream out of blocks. One at a time: Node joins what waits in a stream into a new buffer for those who iterate over it. */
export const blockStream = (blocks: AsyncIterable<Buffer>): BlockStream =>
  Object.assign(Readable.from(blocks, { objectMode: false, highWaterMark: 1 }), { recycle: giveBack });
