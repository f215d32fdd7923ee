/** The answer to a body that a server does not want to the end. */

import type { Socket } from 'node:net';
import { buildConnector, type Pool } from 'undici';

/** How long the answer to a request may still come after the server stopped taking its body. */
const LATE_ANSWER_MS = 2_000;

/** A pool whose sockets hold a write error back: see holdWriteErrors. */
export function holdingWriteErrors(pool: Pool.Options): Pool.Options {
  const connect = typeof pool.connect === 'function' ? pool.connect : buildConnector({ ...pool.connect });
  const holding: buildConnector.connector = (options, callback) =>
    connect(options, (...[error, socket]) => {
      if (error !== null) return callback(error, null);
      holdWriteErrors(socket);
      callback(null, socket);
    });
  return { ...pool, connect: holding };
}

/**
 * A server that refuses a body (413) answers at once and closes while we are still writing. Our next write then fails
 * with EPIPE or ECONNRESET, and Node.js destroys the socket, with the answer unread in the kernel's buffer. So a write
 * error is held back until the reading side has come to its end too, which is moments later, or for LATE_ANSWER_MS.
 */
function holdWriteErrors(socket: Socket): void {
  const write = socket._write;
  socket._write = (chunk, encoding, callback) => write.call(socket, chunk, encoding, held(socket, callback));
  const writev = socket._writev;
  if (writev) socket._writev = (chunks, callback) => writev.call(socket, chunks, held(socket, callback));
}

type WriteCallback = (error?: Error | null) => void;

const held =
  (socket: Socket, callback: WriteCallback): WriteCallback =>
  (error) => {
    if (!error || socket.destroyed || socket.readableEnded) callback(error);
    else afterAnswer(socket, () => callback(error));
  };

function afterAnswer(socket: Socket, then: () => void): void {
  const timer = setTimeout(finish, LATE_ANSWER_MS).unref();
  socket.once('end', finish).once('close', finish);
  function finish(): void {
    clearTimeout(timer);
    socket.off('end', finish).off('close', finish);
    then();
  }
}
