/**
 * What holds the requests to a host back, one of each for every host: the back-off, so that many uploads do not overrun
 * a registry that said 429, and the order of bodies on a fast link.
 */
import { setTimeout as sleepFor } from 'node:timers/promises';
import { now } from '../../common/async.ts';
import type { RegistryError } from '../http/error.ts';
import { askedWait } from '../http/error-body.ts';

/** Longer than a blip of a load balancer, short enough not to be felt. */
const FIRST_DELAY_MS = 500;

/**
 * Half a minute between tries is often enough for an outage of minutes; longer pauses only delay the moment of going
 * on.
 */
const LONGEST_DELAY_MS = 30_000;

/** Requests that were held back together start within this time, not in the same millisecond. */
const SPREAD_MS = 500;

/** Time and chance, replaceable in tests. */
export interface Clock {
  /** Milliseconds that only go forward. */
  now(): number;
  /** In [0, 1). */
  random(): number;
  /** Rejects with the signal's reason. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now,
  random: () => Math.random(),
  sleep: async (ms, signal) => {
    await sleepFor(ms, undefined, { signal }).catch((error: unknown) => {
      throw signal.aborted ? signal.reason : error;
    });
  },
};

/** The part of an answer that says how long to wait. */
interface Waitable {
  readonly status?: number | undefined;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What an error means for the next try, which decides how long it is waited for. */
export type Trouble =
  /** The host cannot be reached, or what stands in front of it cannot reach it. Bounded by `max-wait`. */
  | 'away'
  /** The host asks for fewer requests. Bounded by `max-wait`. */
  | 'limited'
  /** The host answered, with its own failure. Bounded by `max-retries`. */
  | 'failed'
  /** A host that never answered cannot be reached: perhaps a typo. Bounded by `max-retries`. */
  | 'unknown';

const AWAY_KINDS: ReadonlySet<string> = new Set(['refused', 'reset', 'timeout', 'dns', 'proxy']);

/** What gateways and load balancers answer in the place of a registry that is away or too slow. */
const AWAY_STATUS: ReadonlySet<number> = new Set([
  408, 425, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 530,
]);

export type WaitEvent =
  /** The host is away, or asks for fewer requests: it is waited for, `maxWaitMs` at most. Once, until `resumed`. */
  | {
      readonly type: 'waiting';
      readonly host: string;
      readonly reason: string;
      readonly limited: boolean;
      readonly maxWaitMs: number;
    }
  /** The host answers again. */
  | { readonly type: 'resumed'; readonly host: string; readonly waitedMs: number };

interface BackoffOptions {
  readonly clock?: Clock | undefined;
  /** No hold is longer: the push fails before. Milliseconds. */
  readonly maxWait?: number;
}

/** How long a host may be away, or ask to be left alone, before a push fails: `max-wait`. */
export const DEFAULT_MAX_WAIT_MS = 10 * 60_000;

/**
 * What is known of a host's health: whether it has ever answered, whether it is away or asked for less, and how long to
 * wait before the next try.
 */
export class Backoff {
  readonly clock: Clock;
  readonly #maxWait: number;
  /** Hosts that have answered, by `host:port`. */
  readonly #answered = new Set<string>();
  #heldUntil = Number.NEGATIVE_INFINITY;
  /** Failed requests since the registry's last good answer. */
  #troubles = 0;
  /** Since when the wait that was logged lasts; undefined while none does. */
  #waitingSince: number | undefined;

  constructor({ clock = systemClock, maxWait = DEFAULT_MAX_WAIT_MS }: BackoffOptions = {}) {
    this.clock = clock;
    this.#maxWait = maxWait;
  }

  /** Exponential with jitter over a floor: between a half and all of 0.5 s · 2^attempt, at most 30 s. From 0. */
  delay(attempt: number): number {
    return this.jittered(Math.min(FIRST_DELAY_MS * 2 ** attempt, LONGEST_DELAY_MS));
  }

  /** Between a half and all of a delay, ms. */
  jittered(ms: number): number {
    return Math.round(ms * (0.5 + this.clock.random() / 2));
  }

  /** Notes that a host has answered, whatever it said. */
  answered({ host }: URL): void {
    this.#answered.add(host);
  }

  hasAnswered({ host }: URL): boolean {
    return this.#answered.has(host);
  }

  /**
   * Notes an answer of the registry. A limit, or a 503, that says how long it holds keeps back every request of this
   * host, unless that is longer than a push waits.
   */
  note(answer: Waitable): void {
    const { status = 0, headers } = answer;
    if (status !== 429 && status !== 503 && status !== 403) return;
    const ms = askedWait(headers);
    if (ms !== undefined && ms <= this.#maxWait) this.hold(ms);
  }

  /** Holds every request of this host back, ms from now. */
  hold(ms: number): void {
    this.#heldUntil = Math.max(this.#heldUntil, this.clock.now() + ms);
  }

  /** How long the host is held back, ms. */
  get held(): number {
    return Math.max(0, this.#heldUntil - this.clock.now());
  }

  /**
   * Resolves when the host may be asked again; at once if it never said otherwise. Rejects with the signal's reason.
   */
  async ready(signal: AbortSignal): Promise<void> {
    for (let left = this.held; left > 0; left = this.held) {
      await this.clock.sleep(left + Math.round(this.clock.random() * SPREAD_MS), signal);
    }
  }

  /** What an error says of the host that it names. */
  troubleOf(error: RegistryError): Trouble {
    if (error.kind === 'limited' || (error.status === 503 && askedWait(error.headers) !== undefined)) return 'limited';
    if (AWAY_STATUS.has(error.status ?? 0)) return 'away';
    if (!AWAY_KINDS.has(error.kind)) return 'failed';
    return this.hasAnswered(new URL(error.url)) ? 'away' : 'unknown';
  }

  /** Whether an error may pass: a name that was found before (DNS) will be found again. */
  mayPass(error: RegistryError): boolean {
    return error.temporary || (error.kind === 'dns' && this.hasAnswered(new URL(error.url)));
  }

  /**
   * Notes a failed request that is waited for `patience` ms at most. Returns the event for the log where this is the
   * moment to say it: at a limit, and when a host is away for more than one request. Once, until the host answers
   * again.
   */
  waiting(error: RegistryError, trouble: Trouble, host: string, patience: number): WaitEvent | undefined {
    this.#troubles += 1;
    const lasts = trouble === 'limited' || (trouble === 'away' && this.#troubles > 1);
    if (!lasts || this.#waitingSince !== undefined) return undefined;
    this.#waitingSince = this.clock.now();
    return { type: 'waiting', host, reason: error.message, limited: trouble === 'limited', maxWaitMs: patience };
  }

  /** Whether a wait was logged and lasts. */
  get isWaiting(): boolean {
    return this.#waitingSince !== undefined;
  }

  /** Notes a good answer of the registry. Returns the event for the log where it ends a wait that was logged. */
  resumed(host: string): WaitEvent | undefined {
    this.#troubles = 0;
    if (this.#waitingSince === undefined) return undefined;
    const waitedMs = this.clock.now() - this.#waitingSince;
    this.#waitingSince = undefined;
    return { type: 'resumed', host, waitedMs };
  }
}

// How many bodies are on their way to a host at once. On a fast link (a registry in the same network, perhaps behind a
// proxy that takes each body to its end before the registry gets it) the processors are what is scarce: five bodies at
// once make all of them slow, and in the end the largest blob is left alone with most of its chunks, each of which
// waits for the one before it. On a slow link bodies only wait for the wire, and several connections fill it better
// than two.

/** The largest blob, and one beside it that goes while the registry is busy with the first. */
const AT_ONCE = 2;

/** A link that takes longer than this for a body, answer included, is slow: 400 Mbit/s … */
const FAST_BYTES_PER_MS = 50_000;

/** … and what a round trip and a registry's own work take. */
const ANSWER_MS = 100;

/** Smaller bodies delay no other: they never wait. */
const SMALLEST_BYTES = 2 ** 20;

interface Waiter {
  readonly bytes: number;
  /** Bytes of the blob from this body on: the largest rest goes first, since its requests come one after the other. */
  readonly left: number;
  readonly begin: (end: () => void) => void;
}

/** Puts bodies in an order as long as the link is fast; once it was slow, all go at once. */
export class BodyScheduler {
  #waiting: Waiter[] = [];
  #going = 0;
  #slow = false;

  /** Resolves when a body of `bytes` may go, with the function to call when it was answered (or never will be). */
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
    const slow = setTimeout(() => this.#tooLong(), ANSWER_MS + bytes / FAST_BYTES_PER_MS);
    let ended = false;
    begin(() => {
      if (ended) return;
      ended = true;
      clearTimeout(slow);
      this.#going -= 1;
      this.#soon();
    });
  }

  #tooLong(): void {
    this.#slow = true;
    this.#next();
  }
}
