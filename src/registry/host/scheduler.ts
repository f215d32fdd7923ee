/**
 * How many bodies are on their way to a host at once. On a fast link (a registry in the same network, perhaps behind a
 * proxy that takes each body to its end before the registry gets it) the processors are what is scarce: five bodies at
 * once make all of them slow, and in the end the largest blob is left alone with most of its chunks, each of which
 * waits for the one before it. On a slow link bodies only wait for the wire, and several connections fill it better
 * than two.
 */

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
