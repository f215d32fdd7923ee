/** One request and the head of its answer over undici: bodies, deadlines, errors; nothing of registries. */

import { getDefaultHighWaterMark, type Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Dispatcher } from 'undici';
import { Deadline, type Timeouts } from './deadline.ts';
import { type Attempt, abortedOf, bodyError, brokenOff, cancelledError, UnsentError } from './network-error.ts';
import { AnswerBody } from './response.ts';

/** The bytes of a body. A stream that uses its buffers again hears when the connection has taken a buffer. */
type BodySource = Readable & { recycle?(chunk: Buffer): void };

/** Bytes in memory, or as many bytes as `size` from what is opened anew for each try. */
export type RequestBody = Uint8Array | { readonly size: number; open(): BodySource | Buffer };

interface RawRequest extends Attempt {
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: RequestBody | undefined;
  readonly timeouts: Timeouts;
  /** The connection ends with this request. Default: it is kept. */
  readonly closes?: boolean | undefined;
  /** Each of them ends the request, and the answer while it comes. */
  readonly signals: readonly AbortSignal[];
  /** Called once, when the last byte of the answer has come or none will come any more. */
  onOver?(): void;
}

/** Bytes of a body; 0 without one. */
export const bodySize = (body: RequestBody | undefined): number =>
  body === undefined ? 0 : body instanceof Uint8Array ? body.byteLength : body.size;

/**
 * Sends a request and resolves with the head of its answer, whatever its status. Throws RegistryError for everything
 * else.
 */
export async function exchange(dispatcher: Dispatcher, request: RawRequest): Promise<Answer> {
  try {
    return await send(dispatcher, request);
  } catch (error) {
    request.onOver?.();
    throw error;
  }
}

async function send(dispatcher: Dispatcher, request: RawRequest): Promise<Answer> {
  // undici takes a connection back one turn of the event loop after its last answer; asked before that, it opens
  // another one.
  await nextTurn();
  const { url, method, headers, signals, timeouts, onOver } = request;
  const aborted = abortedOf(signals);
  if (aborted !== undefined) throw cancelledError(aborted.reason, request);
  const body = openBody(request);
  const source = body instanceof SentStream ? body : undefined;
  try {
    return await new AnswerHandler({ timeouts, signals, source, onOver }).send(dispatcher, {
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      method: method as Dispatcher.HttpMethod,
      // undici would close the connection after each HEAD, for servers that send a body nevertheless; those bytes end a
      // connection too.
      reset: request.closes ?? false,
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

/**
 * The buffers of a stream for undici. Not the stream itself: it would destroy it with the network's error, which must
 * not look like the stream's.
 */
class SentStream {
  /** The stream's own error, if that is what ended the request. */
  failure: Error | undefined;
  readonly #source: BodySource;

  constructor(source: BodySource) {
    // A counter of the bytes listens to `data`, which would start the stream before there is a connection.
    this.#source = source.pause().on('error', (error) => {
      this.failure ??= error;
    });
  }

  /**
   * undici asks for the next buffer when the connection has taken all of the last one, if that filled the connection's
   * buffer.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    const source = this.#source;
    for await (const chunk of source as AsyncIterable<Buffer>) {
      yield chunk;
      if (chunk.length >= SOCKET_BUFFER) source.recycle?.(chunk);
    }
  }

  /** The request is over, well or not. */
  destroy(): void {
    this.#source.destroy();
  }
}

/** Bytes from which on a write to a socket makes its writer wait. */
const SOCKET_BUFFER = getDefaultHighWaterMark(false);

// undici's handler of one request: how far the request has come, the head of its answer, and what ends it before its
// time.

/** The head of an answer, its body still on the way. */
export interface Answer {
  readonly statusCode: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: AnswerBody;
}

/** What a request may take, what ends it, and what ends with it. */
interface AnswerHandlerOptions {
  readonly timeouts: Timeouts;
  /** Any of them ends the request with its reason, until the last byte of the answer has come. */
  readonly signals: readonly AbortSignal[];
  /** Where the request's body comes from: destroyed when the request is over, well or not. */
  readonly source: { destroy(): void } | undefined;
  readonly onOver?: (() => void) | undefined;
}

/** Sends one request. Whatever happens first counts: the end of the answer, an error, a time-out, a signal. */
class AnswerHandler implements Dispatcher.DispatchHandler {
  readonly #options: AnswerHandlerOptions;
  readonly #deadline: Deadline;
  readonly #head = Promise.withResolvers<Answer>();
  #controller: Dispatcher.DispatchController | undefined;
  #body: AnswerBody | undefined;
  #isOver = false;

  constructor(options: AnswerHandlerOptions) {
    this.#options = options;
    this.#deadline = new Deadline(options.timeouts, this);
    for (const signal of options.signals) signal.addEventListener('abort', this);
  }

  /** Resolves with the head of the answer; rejects with what came in its place, as it was raised. Call it once. */
  send(dispatcher: Dispatcher, request: Dispatcher.DispatchOptions): Promise<Answer> {
    this.#deadline.enter('connect');
    try {
      dispatcher.dispatch(request, this);
    } catch (error) {
      this.#fail(error);
    }
    return this.#head.promise;
  }

  /**
   * Ends the request at once. undici can't abort it before there is a connection: then it is aborted in
   * `onRequestStart`.
   */
  abort(reason: unknown): void {
    this.#fail(reason);
    this.#controller?.abort(reason as Error);
  }

  /** A signal's `abort`: with the handler itself as its listener none needs to be made for each request. */
  handleEvent({ target }: Event): void {
    this.abort((target as AbortSignal).reason);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#isOver) controller.abort(new Error('the request was over before it began'));
    else this.#deadline.enter('send');
  }

  onBodySent(): void {
    this.#deadline.enter('send');
  }

  onRequestSent(): void {
    this.#deadline.enter('header');
  }

  onResponseStart(controller: Dispatcher.DispatchController, statusCode: number, headers: Answer['headers']): void {
    // 102 and 103 are signs of life, and no answer yet.
    const isAnswer = statusCode >= 200;
    this.#deadline.enter(isAnswer ? 'idle' : 'header');
    if (!isAnswer) return;
    this.#body = new AnswerBody({
      // A body that is held back by its reader is not one that stopped coming.
      pause: () => {
        controller.pause();
        this.#deadline.rest();
      },
      resume: () => {
        this.#deadline.enter('idle');
        controller.resume();
      },
      abort: (reason) => controller.abort(reason),
    });
    this.#head.resolve({ statusCode, headers, body: this.#body });
  }

  /** Without a body when the answer was a proxy's 407, which undici turned into an error. */
  onResponseData(_: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#deadline.enter('idle');
    this.#body?.take(chunk);
  }

  onResponseEnd(): void {
    this.#close();
    this.#body?.end();
  }

  onResponseError(_: Dispatcher.DispatchController | null, error: unknown): void {
    this.#fail(error);
  }

  #fail(error: unknown): void {
    if (this.#isOver) return;
    this.#close();
    if (this.#body === undefined) this.#head.reject(this.#controller === undefined ? new UnsentError(error) : error);
    else this.#body.fail(error);
  }

  #close(): void {
    const { signals, source, onOver } = this.#options;
    this.#isOver = true;
    this.#deadline.done();
    for (const signal of signals) signal.removeEventListener('abort', this);
    source?.destroy();
    onOver?.();
  }
}
