/** Where the time of one blob in the making goes, so that a user sees what bounds a push. */
import { now } from '../clock.ts';

export class Times {
  readonly #start = now();
  #end: number | undefined;
  #waiting = 0;
  #held = 0;

  /** ms in which the input gave nothing. */
  get waitingForInputMs(): number {
    return this.#waiting;
  }

  /** ms in which the spool was at its bound: the wire is the slowest part. */
  get heldBackMs(): number {
    return this.#held;
  }

  /** All other ms: hashing, compressing, writing, and waiting for a turn at the threads. */
  get compressingMs(): number {
    return Math.max(0, (this.#end ?? now()) - this.#start - this.#waiting - this.#held);
  }

  /** The blob is complete or has failed. */
  end(): void {
    this.#end ??= now();
  }

  /** Passes a promise on and counts its time as held back. */
  async heldBack<T>(promise: Promise<T>): Promise<T> {
    const since = now();
    try {
      return await promise;
    } finally {
      this.#held += now() - since;
    }
  }

  /** Passes a promise of the input's on and counts its time as waiting for it. */
  async waitedForInput<T>(promise: Promise<T>): Promise<T> {
    const since = now();
    try {
      return await promise;
    } finally {
      this.#waiting += now() - since;
    }
  }
}
