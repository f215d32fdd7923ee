/** The body of an answer while it comes. Answers are small documents: what came is kept until it is read, and a stream is not needed. */
import type { Dispatcher } from 'undici';

/** So much may come before somebody reads. */
const UNREAD_BYTES = 64 * 1024;

/** What holds the body back, and what ends it. */
export type Flow = Pick<Dispatcher.DispatchController, 'pause' | 'resume' | 'abort'>;

/** The bytes that have come. `take`, `end` and `fail` are for the connection, all else is for the reader. */
export class AnswerBody {
  readonly #flow: Flow;
  readonly #pieces: Buffer[] = [];
  #length = 0;
  /** With more than this the body is held back. */
  #wanted = UNREAD_BYTES;
  #isOver = false;
  #failure: unknown;
  /** Of whoever waits for more. */
  #arrival: PromiseWithResolvers<void> | undefined;

  constructor(flow: Flow) {
    this.#flow = flow;
  }

  /** How many bytes have come. */
  get length(): number {
    return this.#length;
  }

  /** What ended the body before its end; undefined while it comes, and when it came whole. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Resolves when more than so many bytes have come, or when no more will: whole or not. Never rejects. */
  async until(bytes: number): Promise<void> {
    while (!this.#isOver && this.#length <= bytes) {
      this.#wanted = bytes;
      this.#arrival ??= Promise.withResolvers();
      const { promise } = this.#arrival;
      // What the connection has read before may come within this very call.
      this.#flow.resume();
      await promise;
    }
  }

  /** The first so many of the bytes that have come. */
  first(bytes: number): Buffer {
    return Buffer.concat(this.#pieces, Math.min(bytes, this.#length));
  }

  /** Ends a body of which more is to come, and its connection. */
  letGo(): void {
    if (!this.#isOver) this.#flow.abort(new Error('the rest of the answer was not wanted'));
  }

  /** A piece has come. */
  take(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#length += piece.length;
    if (this.#length <= this.#wanted) return;
    this.#flow.pause();
    this.#wake();
  }

  /** All pieces have come. */
  end(): void {
    this.#isOver = true;
    this.#wake();
  }

  /** No more pieces will come, and some are missing. */
  fail(error: unknown): void {
    this.#failure = error;
    this.end();
  }

  #wake(): void {
    this.#arrival?.resolve();
    this.#arrival = undefined;
  }
}
