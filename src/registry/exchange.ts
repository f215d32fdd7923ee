/** One request and the head of its answer over undici: bodies, deadlines, errors; nothing of registries. */
import { PassThrough, type Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Dispatcher } from 'undici';
import { Deadline, type Timeouts } from './deadline.ts';
import { type Attempt, bodyError, cancelledError, networkError } from './network.ts';

/** Bytes in memory, or as many bytes as `size` from a stream that is opened anew for each try. */
export type RequestBody = Uint8Array | { readonly size: number; open(): Readable };

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
  deadline.enter('connect');
  try {
    return await watched(dispatcher, deadline).request({
      origin: request.url.origin,
      path: `${request.url.pathname}${request.url.search}`,
      method: request.method as Dispatcher.HttpMethod,
      headers: { ...request.headers },
      body: source.body,
      signal: deadline.signal,
    });
  } catch (error) {
    deadline.done();
    source.body?.destroy?.();
    if (request.signal.aborted) throw cancelledError(request.signal.reason, request);
    if (source.failure() !== undefined) throw bodyError(source.failure()!, request);
    throw networkError(deadline.signal.aborted ? deadline.signal.reason : error, request);
  }
}

/** A dispatcher that tells the deadline how far each request has come. */
function watched(dispatcher: Dispatcher, deadline: Deadline): Dispatcher {
  return dispatcher.compose((dispatch) => (options, handler) => dispatch(options, watch(handler, deadline)));
}

/** undici's handler with a step of the deadline before each of its calls. */
function watch(handler: Dispatcher.DispatchHandler, deadline: Deadline): Dispatcher.DispatchHandler {
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
      deadline.done();
      handler.onResponseEnd?.(controller, trailers);
    },
    onResponseError: (controller, error) => {
      deadline.done();
      handler.onResponseError?.(controller, error);
    },
  };
}

interface OpenedBody {
  readonly body: (Buffer & { destroy?: undefined }) | PassThrough | null;
  /** The error of the bytes' own source, if that is what ended the request. */
  failure(): Error | undefined;
}

/** A stream goes through a PassThrough (no copy): undici destroys what it is given with the network's error, which must not look like the source's. */
function openBody({ body, ...attempt }: RawRequest): OpenedBody {
  if (body === undefined || bodySize(body) === 0) return { body: null, failure: () => undefined };
  if (body instanceof Uint8Array) {
    return { body: Buffer.from(body.buffer, body.byteOffset, body.byteLength), failure: () => undefined };
  }
  let failure: Error | undefined;
  const source = opened(body, attempt);
  const relay = new PassThrough({ highWaterMark: source.readableHighWaterMark });
  source.on('error', (error) => {
    failure ??= error;
    relay.destroy(error);
  });
  relay.on('error', () => {}).on('close', () => source.destroy());
  source.pipe(relay);
  return { body: relay, failure: () => failure };
}

function opened(body: { open(): Readable }, attempt: Attempt): Readable {
  try {
    return body.open();
  } catch (error) {
    throw bodyError(error as Error, attempt);
  }
}
