/** A link with a rate and a round trip: what a benchmark runs over. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Timers are no finer than this (ms); shorter debts are carried on, so that the average is right. */
const FINEST_WAIT_MS = 2;

/** Time on the link that was missed because a timer came late or a reader was busy may be made up for (ms). */
const MADE_UP_MS = 50;

/** The time of a link; tests let it pass by hand. */
export interface LinkClock {
  /** Milliseconds that only go forward. */
  now(): number;
  sleep(ms: number): Promise<unknown>;
}

export const SYSTEM_LINK_CLOCK: LinkClock = { now: () => performance.now(), sleep: (ms) => sleep(ms) };

/** Lets so many bytes a second through, over all who ask. */
export class Bucket {
  readonly #millisecondsPerByte: number;
  readonly #clock: LinkClock;
  #freeAt = 0;

  constructor(bytesPerSecond: number, clock = SYSTEM_LINK_CLOCK) {
    this.#millisecondsPerByte = 1000 / bytesPerSecond;
    this.#clock = clock;
  }

  /** Resolves when so many bytes have had their time on the link. */
  async take(bytes: number): Promise<void> {
    if (this.#millisecondsPerByte === 0) return;
    const now = this.#clock.now();
    this.#freeAt = Math.max(now - MADE_UP_MS, this.#freeAt) + bytes * this.#millisecondsPerByte;
    const wait = this.#freeAt - now;
    if (wait > FINEST_WAIT_MS) await this.#clock.sleep(wait);
  }
}
