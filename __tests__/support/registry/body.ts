/** The body of a request, read so that nothing which arrived is lost when the connection breaks. */
import type { IncomingMessage } from 'node:http';

/** Bytes that may wait to be read before the client is made to wait. */
const MOST_WAITING = 1024 * 1024;

/** Where the bytes of a body are counted, and whether it broke off. */
export interface BodyCount {
  bytes: number;
  broken: boolean;
}

/**
 * The pieces of a body. It is listened to from this call on: a stream that is destroyed by a broken connection would throw
 * away what nobody has read yet, and what a cut PATCH leaves in a session would be a matter of luck. After the last piece
 * that came, the iteration throws if the body was not whole.
 */
export function bodyOf(request: IncomingMessage, count: BodyCount): AsyncIterable<Buffer> {
  const arrivals = new Arrivals(request, count);
  return arrivals.pieces();
}

class Arrivals {
  readonly #request: IncomingMessage;
  readonly #count: BodyCount;
  readonly #queue: Buffer[] = [];
  #waiting = 0;
  #state: 'going on' | 'whole' | 'broken';
  #wake = () => {};

  constructor(request: IncomingMessage, count: BodyCount) {
    this.#request = request;
    this.#count = count;
    this.#state = request.destroyed ? 'broken' : 'going on';
    request.on('error', () => {});
    // What is in the stream's own buffer while it is paused would be gone with the connection.
    request.once('aborted', () => request.read());
    request.once('end', () => this.#end('whole'));
    request.once('close', () => this.#end('broken'));
    request.on('data', (piece: Buffer) => this.#take(piece));
  }

  #take(piece: Buffer): void {
    this.#count.bytes += piece.length;
    this.#waiting += piece.length;
    this.#queue.push(piece);
    if (this.#waiting > MOST_WAITING) this.#request.pause();
    this.#wake();
  }

  #end(state: 'whole' | 'broken'): void {
    if (this.#state === 'going on') this.#state = state;
    this.#wake();
  }

  async *pieces(): AsyncIterable<Buffer> {
    for (;;) {
      for (let piece = this.#queue.shift(); piece !== undefined; piece = this.#queue.shift()) {
        yield piece;
        this.#waiting -= piece.length;
        if (this.#waiting <= MOST_WAITING && this.#request.isPaused()) this.#request.resume();
      }
      if (this.#state === 'whole') return;
      if (this.#state === 'broken') {
        this.#count.broken = true;
        throw new Error('the connection broke before the end of the body');
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
