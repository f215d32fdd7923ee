/** The body of one entry of a tar stream, so that any part of it can be left unread without breaking the stream. */

import { type FillStream, fillStream, giveBack, takeBlock } from '../../blob/blocks.ts';
import { ImageError } from '../../oci/error.ts';
import { TAR_BLOCK } from './header.ts';

/** Reads an entry block by block, and skips what is not read of it. */
export class EntryReader {
  /** Bytes. */
  readonly size: number;
  readonly #input: ByteInput;
  /** What was looked at, and is still to be read. */
  #ahead: Buffer = Buffer.alloc(0);
  /** Bytes that the input still has of it. */
  #left: number;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(input: ByteInput, size: number) {
    this.size = size;
    this.#left = size;
    this.#input = input;
  }

  /** The first bytes, as many as asked for or all there are; they stay to be read. */
  async peek(bytes: number): Promise<Buffer> {
    const head = Buffer.alloc(Math.min(bytes, this.size));
    await this.fill(head);
    this.#ahead = head;
    return head;
  }

  /** All that is left, in memory; the caller has looked at the size. */
  async rest(): Promise<Buffer> {
    const bytes = Buffer.alloc(this.#ahead.length + this.#left);
    await this.fill(bytes);
    return bytes;
  }

  /** Reads what is left, drops it, and goes to the end of its last block: the only way past an entry. */
  async drain(): Promise<void> {
    const scratch = takeBlock();
    this.#ahead = Buffer.alloc(0);
    while ((await this.fill(scratch)) > 0);
    const rest = scratch.subarray(0, -this.size & (TAR_BLOCK - 1));
    if ((await this.#input.fill(rest)) < rest.length) throw new Error('it ends in the middle of a file');
    giveBack(scratch);
  }

  /**
   * Reads the next bytes into a block; less than fit in only at the end. Throws when the archive ends before the entry
   * does. One at a time: a body that is destroyed while it waits is drained beside its own last read.
   */
  fill(into: Uint8Array): Promise<number> {
    const turn = this.#turn.then(() => this.#fillNow(into));
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** The rest as a stream. `explain` turns what goes wrong into the error that the reader gets. */
  body(explain: (error: unknown) => Promise<Error>): FillStream {
    const fill = async (into: Uint8Array): Promise<number> => {
      try {
        return await this.fill(into);
      } catch (error) {
        throw await explain(error);
      }
    };
    const body = fillStream(fill);
    // One that is not read yet may still be ended with a reason.
    return body.on('error', () => {});
  }

  async #fillNow(into: Uint8Array): Promise<number> {
    const ahead = this.#ahead.subarray(0, into.length);
    into.set(ahead);
    this.#ahead = this.#ahead.subarray(ahead.length);
    const wanted = into.subarray(ahead.length, ahead.length + this.#left);
    const count = wanted.length === 0 ? 0 : await this.#input.fill(wanted);
    this.#left -= count;
    if (count === wanted.length) return ahead.length + count;
    const read = this.size - this.#left;
    throw new ImageError('Archive', `the archive ends after ${read} of ${this.size} bytes of a file`);
  }
}

/**
 * Bytes in their order, read straight into the reader's own memory: what an archive that comes as a stream is read
 * from.
 */
export interface ByteInput {
  /**
   * Reads the next bytes into a block and returns their number: less than fit in only at the end. One call at a time;
   * between two of them the writer has to wait. Rejects when the source breaks off.
   */
  fill(into: Uint8Array): Promise<number>;
  /** Whether nothing more will come: the end was read, or the source is broken or closed. */
  readonly over: boolean;
}
