/** How long to wait before trying again: one back-off a host, so that many uploads do not hammer a registry that said 429. */

import { setTimeout as sleepFor } from 'node:timers/promises';
import { isBusyStatus } from '../http/error.ts';

/** Longer than a blip of a load balancer, short enough not to be felt. */
const FIRST_DELAY_MS = 500;

/** Half a minute between tries outlasts a rolling restart; more only wastes the runner's time. */
const LONGEST_DELAY_MS = 30_000;

/** A registry that asks for more (Docker Hub: hours) will not let this push through anyway: better to fail while somebody looks. */
const LONGEST_RETRY_AFTER_MS = 120_000;

/** Requests that were held back together start within this time, not in the same millisecond. */
const SPREAD_MS = 500;

/** The part of an error that tells how long to wait. */
export interface Waitable {
  readonly status?: number | undefined;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Time and chance, replaceable in tests. */
export interface BackoffClock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** In [0, 1). */
  random(): number;
  /** Rejects with the signal's reason. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

const SYSTEM_CLOCK: BackoffClock = {
  now: () => Date.now(),
  random: () => Math.random(),
  sleep: async (ms, signal) => {
    await sleepFor(ms, undefined, { signal }).catch((error: unknown) => {
      throw signal.aborted ? signal.reason : error;
    });
  },
};

/** Retry-After (RFC 9110, 10.2.3) in milliseconds from now, seconds or HTTP-date, capped; undefined when absent or unreadable. */
export function retryAfter(value: string | undefined, now: number): number | undefined {
  const text = value?.trim() ?? '';
  if (text === '') return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now;
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), LONGEST_RETRY_AFTER_MS);
}

export class Backoff {
  readonly #clock: BackoffClock;
  #heldUntil = 0;

  constructor(clock: BackoffClock = SYSTEM_CLOCK) {
    this.#clock = clock;
  }

  /** Exponential with full jitter: anywhere between nothing and 0.5 s · 2^attempt, at most 30 s. `attempt` counts from 0. */
  delay(attempt: number): number {
    const ceiling = Math.min(FIRST_DELAY_MS * 2 ** attempt, LONGEST_DELAY_MS);
    return Math.round(this.#clock.random() * ceiling);
  }

  /** Takes note of an answer: a 429 or 503 with Retry-After holds back every request of this host. */
  note(answer: Waitable): void {
    if (!isBusyStatus(answer.status ?? 0)) return;
    const ms = retryAfter(answer.headers?.['retry-after'], this.#clock.now());
    if (ms !== undefined) this.#heldUntil = Math.max(this.#heldUntil, this.#clock.now() + ms);
  }

  /** Resolves when the host may be asked again; at once if it never said otherwise. Rejects with the signal's reason. */
  async ready(signal: AbortSignal): Promise<void> {
    for (let left = this.#left(); left > 0; left = this.#left()) {
      await this.#clock.sleep(left + Math.round(this.#clock.random() * SPREAD_MS), signal);
    }
  }

  /**
   * Waits before try number `attempt` + 1 (from 0) after `error`: as long as the answer or the host's earlier answers ask for,
   * at least the jittered delay. Resolves to the milliseconds waited. Rejects with the signal's reason.
   */
  async wait(attempt: number, error: Waitable, signal: AbortSignal): Promise<number> {
    signal.throwIfAborted();
    const ms = this.planned(attempt, error);
    await this.#clock.sleep(ms, signal);
    return ms;
  }

  /** What `wait` would wait, in milliseconds: for a log line that comes before the wait. */
  planned(attempt: number, error: Waitable): number {
    this.note(error);
    const asked = retryAfter(error.headers?.['retry-after'], this.#clock.now()) ?? 0;
    return Math.max(this.delay(attempt), asked, this.#left());
  }

  #left(): number {
    return this.#heldUntil - this.#clock.now();
  }
}

/** Waiting, replaceable in tests. */

/** Time and chance. */
export type Clock = BackoffClock;

/** Resolves after so many milliseconds; rejects with the signal's reason. */
export async function systemSleep(ms: number, signal: AbortSignal): Promise<void> {
  await sleepFor(ms, undefined, { signal }).catch((error: unknown) => {
    throw signal.aborted ? signal.reason : error;
  });
}
