/**
 * Places for uploads. Large blobs: a fixed number, the largest first, so that a long upload does not begin last. Small ones go
 * beside them, on what connections are free: a short upload does not wait for a long one.
 */

/** Up to this a blob is small: it takes a few round trips, and hardly any time to send. Bytes. */
export const SMALL_BLOB = 2 * 2 ** 20;

/** Small blobs under way for each large one: each takes three round trips, and all of them share the connections. */
const SMALL_PER_LARGE = 2;

interface Waiting {
  readonly size: number;
  start(): void;
}

/** A number of places, given to the largest first; of equal ones to the first that came. */
class Places {
  #free: number;
  #waiting: Waiting[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  async run<T>(size: number, work: () => Promise<T>): Promise<T> {
    await new Promise<void>((start) => {
      this.#waiting.push({ size, start });
      this.#next();
    });
    try {
      return await work();
    } finally {
      this.#free += 1;
      this.#next();
    }
  }

  #next(): void {
    while (this.#free > 0 && this.#waiting.length > 0) {
      const chosen = this.#waiting.reduce((largest, one) => (one.size > largest.size ? one : largest));
      this.#waiting = this.#waiting.filter((one) => one !== chosen);
      this.#free -= 1;
      chosen.start();
    }
  }
}

export class UploadSlots {
  readonly #large: Places;
  readonly #small: Places;

  /** `count`: large blobs under way at once. */
  constructor(count: number) {
    this.#large = new Places(count);
    this.#small = new Places(count * SMALL_PER_LARGE);
  }

  /** Runs `work` as soon as there is a place. `size` in bytes; a blob whose size is not known is large. */
  run<T>(size: number | undefined, work: () => Promise<T>): Promise<T> {
    const bytes = size ?? Number.POSITIVE_INFINITY;
    return (bytes <= SMALL_BLOB ? this.#small : this.#large).run(bytes, work);
  }
}
