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
  const queue: Buffer[] = [];
  let waiting = 0;
  let state = (request.destroyed ? 'broken' : 'going on') as 'going on' | 'whole' | 'broken';
  let wake = () => {};
  request.on('error', () => {});
  // What is in the stream's own buffer while it is paused would be gone with the connection.
  request.once('aborted', () => request.read());
  request.once('end', () => {
    state = 'whole';
    wake();
  });
  request.once('close', () => {
    if (state === 'going on') state = 'broken';
    wake();
  });
  request.on('data', (piece: Buffer) => {
    count.bytes += piece.length;
    waiting += piece.length;
    queue.push(piece);
    if (waiting > MOST_WAITING) request.pause();
    wake();
  });
  return (async function* pieces() {
    for (;;) {
      for (let piece = queue.shift(); piece !== undefined; piece = queue.shift()) {
        yield piece;
        waiting -= piece.length;
        if (waiting <= MOST_WAITING && request.isPaused()) request.resume();
      }
      if (state === 'whole') return;
      if (state === 'broken') {
        count.broken = true;
        throw new Error('the connection broke before the end of the body');
      }
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  })();
}
