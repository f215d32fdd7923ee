/** undici's handler of one request: how far the request has come, the head of its answer, and what ends it before its time. */
import type { Dispatcher } from 'undici';
import { AnswerBody } from './answer-body.ts';
import { Deadline, type Timeouts } from './deadline.ts';

/** The head of an answer, its body still on the way. */
export interface Answer {
  readonly statusCode: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: AnswerBody;
}

/** What a request may take, what ends it, and what ends with it. */
export interface AnswerHandlerOptions {
  readonly timeouts: Timeouts;
  /** Any of them ends the request with its reason, until the last byte of the answer has come. */
  readonly signals: readonly AbortSignal[];
  /** Where the request's body comes from: destroyed when the request is over, well or not. */
  readonly source: { destroy(): void } | undefined;
}

/** Sends one request. Whatever happens first counts: the end of the answer, an error, a time-out, a signal. */
export class AnswerHandler implements Dispatcher.DispatchHandler {
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

  /** Ends the request at once. undici can't be told before there is a connection: then it hears of it in `onRequestStart`. */
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
    this.#body = new AnswerBody(controller);
    this.#head.resolve({ statusCode, headers, body: this.#body });
  }

  /** Without a body when the answer was a proxy's 407, which undici turned into an error. */
  onResponseData(_: Dispatcher.DispatchController, piece: Buffer): void {
    this.#deadline.enter('idle');
    this.#body?.take(piece);
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
    if (this.#body === undefined) this.#head.reject(error);
    else this.#body.fail(error);
  }

  #close(): void {
    const { signals, source } = this.#options;
    this.#isOver = true;
    this.#deadline.done();
    for (const signal of signals) signal.removeEventListener('abort', this);
    source?.destroy();
  }
}
