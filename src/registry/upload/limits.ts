/** What one blob's upload may cost besides failed tries: lost sessions and failed closing requests are bounded by number. */

/**
 * Sessions that may be lost in a row without getting further into the blob than an earlier one: each of them sends bytes
 * again, so this bounds the bytes where every session makes some progress and is then lost.
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

  /** Counts a closing request that failed; whether another one is allowed. Progress with bytes does not start this count anew. */
  closingFailed(): boolean {
    this.closingFailures += 1;
    return this.closingFailures <= this.#maxRetries;
  }

  /**
   * Counts a session that was given up; whether another one is allowed. One that follows with smaller chunks is another attempt:
   * with them it may pass where the earlier ones broke, though it has not got as far yet.
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
