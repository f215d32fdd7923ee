/** One request and the head of its answer over undici: bodies, deadlines, errors; nothing of registries. */
import { getDefaultHighWaterMark, type Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Dispatcher } from 'undici';
import { Deadline, type Timeouts } from './deadline.ts';
import { type Attempt, bodyError, cancelledError, networkError } from './network.ts';

/** The bytes of a body. A stream that uses its buffers again learns when the connection has taken a piece. */
export type BodySource = Readable & { recycle?(piece: Buffer): void };

/** Bytes in memory, or as many bytes as `size` from what is opened anew for each try. */
export type RequestBody = Uint8Array | { readonly size: number; open(): BodySource | Buffer };

export interface RawRequest extends Attempt {
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: RequestBody | undefined;
  readonly timeouts: Timeouts;
  readonly signal: AbortSignal;
}

/** Bytes of a body; 0 without one. */
export const bodySize = (body: RequestBody | undefined): number =>
  body === undefined ? 0 : body instanceof Uint8Array ? body.byteLength : body.size;

/** Sends a request and resolves with the head of its answer, whatever its status. Throws RegistryError for everything else. */
export async function exchange(dispatcher: Dispatcher, request: RawRequest): Promise<Dispatcher.ResponseData> {
  if (request.signal.aborted) throw cancelledError(request.signal.reason, request);
  // undici takes a connection back one turn of the event loop after its last answer; asked before that, it opens another one.
  await nextTurn();
  const source = openBody(request);
  const deadline = new Deadline(request.timeouts, request.signal);
  const over = () => {
    deadline.done();
    source.close();
  };
  deadline.enter('connect');
  try {
    return await watched(dispatcher, deadline, over).request({
      origin: request.url.origin,
      path: `${request.url.pathname}${request.url.search}`,
      method: request.method as Dispatcher.HttpMethod,
      // undici would close the connection after each HEAD, for servers that send a body nevertheless; those bytes end a connection too.
      reset: false,
      headers: { ...request.headers },
      // undici takes iterables, its types do not.
      body: source.body as Readable | null,
      signal: deadline.signal,
    });
  } catch (error) {
    over();
    if (request.signal.aborted) throw cancelledError(request.signal.reason, request);
    if (source.failure() !== undefined) throw bodyError(source.failure()!, request);
    throw networkError(deadline.signal.aborted ? deadline.signal.reason : error, request);
  }
}

/** A dispatcher that tells the deadline how far each request has come. */
function watched(dispatcher: Dispatcher, deadline: Deadline, over: () => void): Dispatcher {
  return dispatcher.compose((dispatch) => (options, handler) => dispatch(options, watch(handler, deadline, over)));
}

/** undici's handler with a step of the deadline before each of its calls. */
function watch(handler: Dispatcher.DispatchHandler, deadline: Deadline, over: () => void): Dispatcher.DispatchHandler {
  return {
    onRequestStart: (controller, context) => {
      deadline.enter('send');
      handler.onRequestStart?.(controller, context);
    },
    onBodySent: (chunk) => {
      deadline.enter('send');
      handler.onBodySent?.(chunk);
    },
    onRequestSent: () => {
      deadline.enter('header');
      handler.onRequestSent?.();
    },
    onResponseStart: (controller, status, headers, message) => {
      deadline.enter('idle');
      handler.onResponseStart?.(controller, status, headers, message);
    },
    onResponseData: (controller, chunk) => {
      deadline.enter('idle');
      handler.onResponseData?.(controller, chunk);
    },
    onResponseEnd: (controller, trailers) => {
      over();
      handler.onResponseEnd?.(controller, trailers);
    },
    onResponseError: (controller, error) => {
      over();
      handler.onResponseError?.(controller, error);
    },
  };
}

interface OpenedBody {
  readonly body: Buffer | AsyncIterable<Buffer> | null;
  /** The error of the bytes' own source, if that is what ended the request. */
  failure(): Error | undefined;
  /** The request is over, well or not. */
  close(): void;
}

function openBody({ body, ...attempt }: RawRequest): OpenedBody {
  const inMemory = { failure: () => undefined, close: () => {} };
  if (body === undefined || bodySize(body) === 0) return { body: null, ...inMemory };
  if (body instanceof Uint8Array) {
    return { body: Buffer.from(body.buffer, body.byteOffset, body.byteLength), ...inMemory };
  }
  let failure: Error | undefined;
  const source = opened(body, attempt);
  if (source instanceof Uint8Array) return { body: source, ...inMemory };
  // Whoever counts the pieces as they go by listens to `data`, which would set them off before there is a connection.
  source.pause().on('error', (error) => {
    failure ??= error;
  });
  return { body: piecesOf(source), failure: () => failure, close: () => source.destroy() };
}

/**
 * Not the stream itself: undici would destroy it with the network's error, which must not look like the source's. And it asks an
 * iterable for the next piece when the connection has taken the last one to its end, if that filled the connection's buffer.
 */
async function* piecesOf(source: BodySource): AsyncGenerator<Buffer> {
  for await (const piece of source as AsyncIterable<Buffer>) {
    yield piece;
    if (piece.length >= SOCKET_BUFFER) source.recycle?.(piece);
  }
}

/** Bytes from which on a write to a socket makes its writer wait. */
const SOCKET_BUFFER = getDefaultHighWaterMark(false);

function opened(body: { open(): BodySource | Buffer }, attempt: Attempt): BodySource | Buffer {
  try {
    return body.open();
  } catch (error) {
    throw bodyError(error as Error, attempt);
  }
}
