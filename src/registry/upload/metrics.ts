/**
 * What an upload sends and how long that takes, counted while it happens; and requests that would take too long, cut
 * off.
 */

import type { Readable } from 'node:stream';
import type { ByteRange, ReadableBlob } from '../../blob/blob.ts';
import { now } from '../../common/async.ts';
import { LONGEST_REQUEST_MS } from '../host/capabilities.ts';
import type { RequestBody } from '../http/exchange.ts';

export class UploadMetrics {
  /** Bytes of bodies that were handed to the network, in all tries. */
  bytesSent = 0;
  /** Milliseconds of all requests from their first byte to the last one of their body. */
  sendingMs = 0;
  /** Milliseconds of all requests from the last byte of their body to their answer or their end. */
  waitedMs = 0;
  /** Bytes of the last body that were taken before it ended or broke. */
  taken = 0;
  /** Milliseconds that the last request took from the opening of its body, its answer included. */
  lastMs = 0;
  /** When the body of the current request was opened: it is then not held back any more. Undefined before that. */
  openedAt: number | undefined;
  #sentAt: number | undefined;
  readonly #onSent: ((end: number) => void) | undefined;

  /** `onSent` is called with the offset in the blob up to which a body was handed to the network. */
  constructor(onSent?: (end: number) => void) {
    this.#onSent = onSent;
  }

  /** A body for the transport; each opening of it reads the same bytes anew. */
  metered(body: ReadableBlob, range: ByteRange): RequestBody {
    return { size: range.end - range.start, open: () => this.#count(body.read(range.start, range.end), range.start) };
  }

  /** Takes the time of one request. */
  async timed<T>(request: () => Promise<T>): Promise<T> {
    const start = now();
    this.taken = 0;
    this.openedAt = undefined;
    this.#sentAt = undefined;
    try {
      return await request();
    } finally {
      const end = now();
      const sentAt = this.#sentAt ?? (this.taken > 0 ? end : start);
      this.sendingMs += sentAt - start;
      this.waitedMs += end - sentAt;
      this.lastMs = end - (this.openedAt ?? start);
    }
  }

  /** Whether the last byte of the current body was handed to the network. */
  get isSent(): boolean {
    return this.#sentAt !== undefined;
  }

  #count<Body extends Readable | Buffer>(body: Body, start: number): Body {
    this.taken = 0;
    this.openedAt = now();
    const took = ({ length }: Buffer): void => {
      this.taken += length;
      this.bytesSent += length;
      this.#onSent?.(start + this.taken);
    };
    const ended = (): void => {
      this.#sentAt = now();
    };
    if (body instanceof Uint8Array) {
      took(body);
      ended();
    } else body.on('data', took).once('end', ended);
    return body;
  }
}

/**
 * The kernel takes megabytes at once: what was handed to it says something of the link's speed only after this time.
 */
const JUDGED_AFTER_MS = 10_000;

const CHECK_MS = 1_000;

/**
 * Watches one request with a body, and ends it when it becomes clear that it would take too long: a smaller one
 * follows.
 */
export class SlowRequest {
  readonly #cut = new AbortController();
  readonly #timer: NodeJS.Timeout;

  /** `bytes`: the size of the body. */
  constructor(metrics: UploadMetrics, bytes: number) {
    this.#timer = setInterval(() => {
      const elapsed = now() - (metrics.openedAt ?? now());
      const expected = (elapsed * bytes) / metrics.taken;
      const isSlow = metrics.taken > 0 && !metrics.isSent && expected > LONGEST_REQUEST_MS;
      if (elapsed >= JUDGED_AFTER_MS && isSlow) this.#cut.abort(new Error('the request would take too long'));
    }, CHECK_MS).unref();
  }

  /** Aborted when the request is to end. */
  get signal(): AbortSignal {
    return this.#cut.signal;
  }

  /** The request is over. */
  done(): void {
    clearInterval(this.#timer);
  }
}

// What one blob's upload may cost besides failed tries: lost sessions and failed closing requests are bounded by
// number.

/**
 * Sessions that may be lost in a row without getting further into the blob than an earlier one: each of them sends
 * bytes again, so this bounds the bytes where every session makes some progress and is then lost.
 */
const LOST_SESSIONS = 10;

export class UploadLimits {
  readonly #maxRetries: number;
  /** Closing requests that failed. */
  closingFailures = 0;
  /** Sessions that were lost in a row without getting further than an earlier one. */
  lostSessions = 0;
  /** Sessions that were lost since the last byte of progress. */
  lostSinceProgress = 0;
  #furthest = 0;
  #furthestAtLoss = 0;
  #chunkAtLoss = Number.POSITIVE_INFINITY;

  constructor(maxRetries: number) {
    this.#maxRetries = maxRetries;
  }

  /** The session has confirmed bytes up to this offset that it had not confirmed before. */
  progress(offset: number): void {
    this.lostSinceProgress = 0;
    this.#furthest = Math.max(this.#furthest, offset);
  }

  /**
   * Counts a closing request that failed; whether another one is allowed. Progress with bytes does not start this count
   * anew.
   */
  closingFailed(): boolean {
    this.closingFailures += 1;
    return this.closingFailures <= this.#maxRetries;
  }

  /**
   * Counts a session that was given up; whether another one is allowed. One that follows with smaller chunks is another
   * attempt: with them it may pass where the earlier ones broke, though it has not got as far yet.
   */
  sessionLost(nextChunk: number): boolean {
    this.lostSinceProgress += 1;
    const isOther = this.#furthest > this.#furthestAtLoss || nextChunk < this.#chunkAtLoss;
    this.lostSessions = isOther ? 1 : this.lostSessions + 1;
    this.#furthestAtLoss = this.#furthest;
    this.#chunkAtLoss = Math.min(this.#chunkAtLoss, nextChunk);
    return this.lostSessions <= LOST_SESSIONS;
  }
}
