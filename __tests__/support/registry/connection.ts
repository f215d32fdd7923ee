/** Writing an answer, and ending connections in the ways in which real servers end them. */
import { createReadStream } from 'node:fs';
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import type { Answer } from './answer.ts';

/** How long a lingering connection still swallows what comes (ms); nginx's lingering_timeout is 5 s. */
const LINGER_MS = 2_000;

/** Writes an answer. Resolves when it is written; never rejects. */
export async function write(request: IncomingMessage, response: ServerResponse, given: Answer): Promise<void> {
  if (given.ending === 'reset') {
    request.socket.resetAndDestroy();
    return;
  }
  if (given.ending === 'linger' || isEarly(request)) {
    linger(request, given);
    return;
  }
  const { body } = given;
  const length =
    body === undefined || !('length' in Object(body)) ? undefined : Buffer.byteLength(body as string | Buffer);
  const sized = given.headers['Content-Length'] ?? String(length ?? 0);
  response.writeHead(
    given.status,
    given.status === 204 ? given.headers : { ...given.headers, 'Content-Length': sized },
  );
  await writeBody(request, response, body).catch(() => response.destroy());
}

/**
 * Whether Node.js would close the connection with a part of the body unread, which resets it and takes the answer along.
 * Servers linger there, Go's (distribution, zot, Gitea) too: net/http, closeWriteAndWait.
 */
const isEarly = (request: IncomingMessage): boolean =>
  !request.complete && Number(request.headers['content-length'] ?? 0) > 0 && request.headers.connection === 'close';

async function writeBody(request: IncomingMessage, response: ServerResponse, body: Answer['body']): Promise<void> {
  if (request.method === 'HEAD' || body === undefined) response.end();
  else if (typeof body === 'string' || Buffer.isBuffer(body)) response.end(body);
  else if (body.start >= body.end) response.end();
  else await pipeline(createReadStream(body.file, { start: body.start, end: body.end - 1 }), response);
}

/** Answers before the body has come, closes for writing, swallows the rest for a while. */
function linger(request: IncomingMessage, given: Answer): void {
  const { socket } = request;
  const body =
    typeof given.body === 'string' || Buffer.isBuffer(given.body) ? Buffer.from(given.body) : Buffer.alloc(0);
  const headers = { ...given.headers, 'Content-Length': String(body.length), Connection: 'close' };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = `HTTP/1.1 ${given.status} ${STATUS_CODES[given.status] ?? ''}\r\n${lines.join('')}\r\n`;
  request.on('error', () => {});
  request.resume();
  socket.end(Buffer.concat([Buffer.from(head), request.method === 'HEAD' ? Buffer.alloc(0) : body]));
  destroyLater(socket);
}

function destroyLater(socket: Socket): void {
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once('close', () => clearTimeout(timer));
}
