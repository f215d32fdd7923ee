/** The time-outs of one request: each phase has its own, and any of them ends the request. */

/** All in milliseconds. */
export interface Timeouts {
  /** Until there is a connection, TLS and proxy included. */
  readonly connect: number;
  /** While sending: between two parts of the body that the connection takes. */
  readonly send: number;
  /** From the last byte sent to the first of the answer. */
  readonly header: number;
  /** While receiving: between two parts of the answer. */
  readonly idle: number;
  /** From start to end, whatever happens in between. */
  readonly total: number;
}

/** A connection takes up to three round trips; this leaves room for a lost SYN (1, 3 and 7 s) on the way. */
const CONNECT_MS = 15_000;

/** The kernel hides a stall behind megabytes of buffer; after two minutes without room for more the path is dead. */
const SEND_MS = 120_000;

/**
 * More than the 100 s after which Cloudflare answers 524 in the server's place: that answer says more than our own
 * time-out.
 */
const HEADER_MS = 130_000;

/** Answers are small; one that stops in the middle for this long does not go on. */
const IDLE_MS = 60_000;

/** What a request of any size may take besides sending its body. */
const TOTAL_BASE_MS = 10 * 60_000;

/** The slowest uplink that is worth waiting for: 32 KiB/s (a chunk of 95 MiB then has 48 minutes). */
const SLOWEST_BYTES_PER_MS = 32.768;

/** The time-outs of a request that sends `bytes`. */
export const defaultTimeouts = (bytes: number): Timeouts => ({
  connect: CONNECT_MS,
  send: SEND_MS,
  header: HEADER_MS,
  idle: IDLE_MS,
  total: TOTAL_BASE_MS + bytes / SLOWEST_BYTES_PER_MS,
});

const REASONS: Readonly<Record<keyof Timeouts, string>> = {
  connect: 'no connection',
  send: 'the connection took no more bytes',
  header: 'no answer',
  idle: 'the answer stopped in the middle',
  total: 'the request was not through',
};

/** Why a request was ended by its deadline. */
export class TimeoutError extends Error {
  override readonly name = 'TimeoutError';
  readonly phase: keyof Timeouts;

  constructor(phase: keyof Timeouts, ms: number) {
    super(`${REASONS[phase]} within ${ms >= 1000 ? `${Math.round(ms / 1000)} s` : `${ms} ms`}`);
    this.phase = phase;
  }
}

/** What runs out of time. */
interface Abortable {
  abort(reason: TimeoutError): void;
}

/** Watches one request. Call `enter` for each sign of life; `done` at its end, or its timers stay. */
export class Deadline {
  readonly #timeouts: Timeouts;
  readonly #request: Abortable;
  readonly #total: NodeJS.Timeout;
  #phase: keyof Timeouts | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isDone = false;

  /** `request` is aborted with a TimeoutError by the first phase that takes too long. */
  constructor(timeouts: Timeouts, request: Abortable) {
    this.#timeouts = timeouts;
    this.#request = request;
    this.#total = this.#start('total');
  }

  /** A phase begins, or goes on: its time starts anew. */
  enter(phase: keyof Timeouts): void {
    if (this.#isDone) return;
    if (phase === this.#phase) {
      this.#timer?.refresh();
      return;
    }
    clearTimeout(this.#timer);
    this.#phase = phase;
    this.#timer = this.#start(phase);
  }

  /** Nothing is expected of the other side until a phase is entered again; the time of the complete request goes on. */
  rest(): void {
    clearTimeout(this.#timer);
    this.#phase = undefined;
  }

  /** The request is over. Signs of life may still come: the end of a body whose answer came early. */
  done(): void {
    this.#isDone = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#total);
  }

  #start(phase: keyof Timeouts): NodeJS.Timeout {
    const ms = this.#timeouts[phase];
    return setTimeout(() => this.#request.abort(new TimeoutError(phase, ms)), ms).unref();
  }
}
