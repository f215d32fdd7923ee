/**
 * How many bodies are on their way to a host at once. On a fast link (a registry in the same network, perhaps behind a proxy that takes
 * each body whole before the registry hears of it) the processors are what is scarce: five bodies at once make all of them slow,
 * and in the end the largest blob is left alone with most of its chunks, each of which waits for the one before it. On
 * a slow link bodies only wait for the wire, and several connections fill it better than two.
 */

import type { Readable } from 'node:stream';
import type { ByteRange, ReadableBlob } from '../../blob/blob.ts';
import { now } from '../../common/async.ts';
import type { RequestBody } from '../http/exchange.ts';

/** The largest blob, and one beside it that goes while the registry is busy with the first. */
const AT_ONCE = 2;

/** A link that takes longer than this for a body, answer included, is slow: 400 Mbit/s … */
const FAST_BYTES_PER_MS = 50_000;

/** … and what a round trip and a registry's own work take. */
const ANSWER_MS = 100;

/** Smaller bodies are in nobody's way: they never wait. */
const SMALLEST_BYTES = 2 ** 20;

interface Waiter {
  readonly bytes: number;
  /** Bytes of the blob from this body on: the largest rest goes first, since its requests come one after the other. */
  readonly left: number;
  readonly begin: (end: () => void) => void;
}

/** Gives turns to bodies as long as the link is fast; once it was slow, all go at once. */
export class BodyScheduler {
  #waiting: Waiter[] = [];
  #going = 0;
  #slow = false;

  /** Resolves when a body of so many bytes may go, with what has to be called when it was answered (or never will be). */
  take(bytes: number, left: number): Promise<() => void> {
    if (this.#slow || bytes < SMALLEST_BYTES) return Promise.resolve(() => {});
    return new Promise((begin) => {
      this.#waiting.push({ bytes, left, begin });
      this.#soon();
    });
  }

  /** Not at once: the blob whose chunk was just answered may have the next one ready, and is perhaps the largest. */
  #soon(): void {
    setImmediate(() => this.#next());
  }

  #next(): void {
    while (this.#waiting.length > 0 && (this.#slow || this.#going < AT_ONCE)) {
      this.#waiting.sort((one, other) => other.left - one.left);
      const [waiter] = this.#waiting.splice(0, 1);
      if (waiter) this.#begin(waiter);
    }
  }

  #begin({ bytes, begin }: Waiter): void {
    this.#going += 1;
    const patience = setTimeout(() => this.#tooLong(), ANSWER_MS + bytes / FAST_BYTES_PER_MS);
    let ended = false;
    begin(() => {
      if (ended) return;
      ended = true;
      clearTimeout(patience);
      this.#going -= 1;
      this.#soon();
    });
  }

  #tooLong(): void {
    this.#slow = true;
    this.#next();
  }
}

/** Counts what an upload sends and how long it waits. */

export class UploadMetrics {
  /** Bytes of bodies that were handed to the network, in all tries. */
  bytesSent = 0;
  /** Milliseconds of all requests from their first byte to the last one of their body. */
  sendingMs = 0;
  /** Milliseconds of all requests from the last byte of their body to their answer or their end. */
  waitedMs = 0;
  /** Bytes of the last body that were taken before it ended or broke. */
  taken = 0;
  #sentAt: number | undefined;
  readonly #onSent: ((end: number) => void) | undefined;

  /** `onSent` hears the offset in the blob up to which a body was handed to the network. */
  constructor(onSent?: (end: number) => void) {
    this.#onSent = onSent;
  }

  /** A body for the transport; each opening of it reads the same bytes anew. */
  metered(body: ReadableBlob, piece: ByteRange): RequestBody {
    return { size: piece.end - piece.start, open: () => this.#count(body.read(piece.start, piece.end), piece.start) };
  }

  /** Takes the time of one request. */
  async timed<T>(request: () => Promise<T>): Promise<T> {
    const start = now();
    this.taken = 0;
    this.#sentAt = undefined;
    try {
      return await request();
    } finally {
      const sentAt = this.#sentAt ?? (this.taken > 0 ? now() : start);
      this.sendingMs += sentAt - start;
      this.waitedMs += now() - sentAt;
    }
  }

  #count<Body extends Readable | Buffer>(body: Body, start: number): Body {
    this.taken = 0;
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
