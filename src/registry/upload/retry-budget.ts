/** How often an upload may fail: so many tries in a row without progress. Any progress starts the count anew. */

/**
 * Sessions that may be lost in a row without getting further into the blob than an earlier one: each of them sends bytes
 * again, so this bounds the traffic where every session makes some progress and is then lost.
 */
const LOST_SESSIONS = 10;

export class RetryBudget {
  readonly #maxRetries: number;
  /** Failures in a row. */
  failures = 0;
  /** Closing requests that failed. */
  closingFailures = 0;
  /** Sessions that were lost in a row without getting further than an earlier one. */
  lostSessions = 0;
  #furthest = 0;
  #furthestAtLoss = 0;
  #lostSinceProgress = 0;
  /** Failures that were followed by another try, in all. */
  retries = 0;

  constructor(maxRetries: number) {
    this.#maxRetries = maxRetries;
  }

  /** Counts a failed try. The number of failures in a row (from 1) when another try is allowed, else undefined. */
  failed(): number | undefined {
    this.failures += 1;
    if (this.failures > this.#maxRetries) return undefined;
    this.retries += 1;
    return this.failures;
  }

  /** The session has confirmed bytes up to this offset that it had not confirmed before. */
  progress(offset: number): void {
    this.failures = 0;
    this.#lostSinceProgress = 0;
    this.#furthest = Math.max(this.#furthest, offset);
  }

  /** Counts a closing request that failed; whether another one is allowed. Progress with bytes does not start this count anew. */
  closingFailed(): boolean {
    this.closingFailures += 1;
    return this.closingFailures <= this.#maxRetries;
  }

  /**
   * Counts a session that was given up; whether another one is allowed. The tries of a session that was dead anyway count as
   * one: it is the first request of the next session that fails or not.
   */
  sessionLost(): boolean {
    this.#lostSinceProgress += 1;
    this.failures = Math.min(this.failures, this.#lostSinceProgress);
    this.lostSessions = this.#furthest > this.#furthestAtLoss ? 1 : this.lostSessions + 1;
    this.#furthestAtLoss = this.#furthest;
    return this.lostSessions <= LOST_SESSIONS;
  }
}
