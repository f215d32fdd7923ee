/** One request and the head of its answer over undici: bodies, deadlines, errors; nothing of registries. */
import { getDefaultHighWaterMark, type Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Dispatcher } from 'undici';
import { type Answer, AnswerHandler } from './answer-handler.ts';
import type { Timeouts } from './deadline.ts';
import { type Attempt, abortedOf, bodyError, brokenOff, cancelledError } from './network.ts';

/** The bytes of a body. A stream that uses its buffers again learns when the connection has taken a piece. */
export type BodySource = Readable & { recycle?(piece: Buffer): void };

/** Bytes in memory, or as many bytes as `size` from what is opened anew for each try. */
export type RequestBody = Uint8Array | { readonly size: number; open(): BodySource | Buffer };

export interface RawRequest extends Attempt {
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: RequestBody | undefined;
  readonly timeouts: Timeouts;
  /** Each of them ends the request, and the answer while it comes. */
  readonly signals: readonly AbortSignal[];
}

/** Bytes of a body; 0 without one. */
export const bodySize = (body: RequestBody | undefined): number =>
  body === undefined ? 0 : body instanceof Uint8Array ? body.byteLength : body.size;

/** Sends a request and resolves with the head of its answer, whatever its status. Throws RegistryError for everything else. */
export async function exchange(dispatcher: Dispatcher, request: RawRequest): Promise<Answer> {
  // undici takes a connection back one turn of the event loop after its last answer; asked before that, it opens another one.
  await nextTurn();
  const { url, method, headers, signals, timeouts } = request;
  const aborted = abortedOf(signals);
  if (aborted !== undefined) throw cancelledError(aborted.reason, request);
  const body = openBody(request);
  const source = body instanceof SentStream ? body : undefined;
  try {
    return await new AnswerHandler({ timeouts, signals, source }).send(dispatcher, {
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      method: method as Dispatcher.HttpMethod,
      // undici would close the connection after each HEAD, for servers that send a body nevertheless; those bytes end a connection too.
      reset: false,
      headers,
      // undici takes iterables, its types do not.
      body: body as Buffer | Readable | null,
    });
  } catch (error) {
    throw brokenOff(source?.failure === undefined ? error : bodyError(source.failure, request), request, signals);
  }
}

function openBody(request: RawRequest): Buffer | SentStream | null {
  const { body } = request;
  if (body === undefined || bodySize(body) === 0) return null;
  if (body instanceof Uint8Array) return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  try {
    const source = body.open();
    return source instanceof Uint8Array ? source : new SentStream(source);
  } catch (error) {
    throw bodyError(error as Error, request);
  }
}

/** The pieces of a stream for undici. Not the stream itself: it would destroy it with the network's error, which must not look like the stream's. */
class SentStream {
  /** The stream's own error, if that is what ended the request. */
  failure: Error | undefined;
  readonly #source: BodySource;

  constructor(source: BodySource) {
    // Whoever counts the pieces as they go by listens to `data`, which would set them off before there is a connection.
    this.#source = source.pause().on('error', (error) => {
      this.failure ??= error;
    });
  }

  /** undici asks for the next piece when the connection has taken the last one to its end, if that filled the connection's buffer. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    const source = this.#source;
    for await (const piece of source as AsyncIterable<Buffer>) {
      yield piece;
      if (piece.length >= SOCKET_BUFFER) source.recycle?.(piece);
    }
  }

  /** The request is over, well or not. */
  destroy(): void {
    this.#source.destroy();
  }
}

/** Bytes from which on a write to a socket makes its writer wait. */
const SOCKET_BUFFER = getDefaultHighWaterMark(false);
