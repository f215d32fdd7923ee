/**
 * Places for uploads, a fixed number of them: the largest blob goes first, and small ones beside it, so that neither a long
 * upload begins last nor a short one waits for a long one.
 */

/** Up to this a blob is small: it takes a few round trips, and hardly any time to send. Bytes. */
export const SMALL_BLOB = 2 * 2 ** 20;

interface Waiting {
  readonly size: number;
  start(): void;
}

export class UploadSlots {
  readonly #count: number;
  #waiting: Waiting[] = [];
  #large = 0;
  #small = 0;

  constructor(count: number) {
    this.#count = count;
  }

  /** Runs `work` in a place of its own as soon as there is one. `size` in bytes; a blob whose size is not known is large. */
  async run<T>(size: number | undefined, work: () => Promise<T>): Promise<T> {
    const bytes = size ?? Number.POSITIVE_INFINITY;
    await new Promise<void>((start) => {
      this.#waiting.push({ size: bytes, start });
      this.#next();
    });
    try {
      return await work();
    } finally {
      if (bytes <= SMALL_BLOB) this.#small -= 1;
      else this.#large -= 1;
      this.#next();
    }
  }

  #next(): void {
    while (this.#waiting.length > 0 && this.#large + this.#small < this.#count) {
      const chosen = this.#choose();
      this.#waiting = this.#waiting.filter((one) => one !== chosen);
      if (chosen.size <= SMALL_BLOB) this.#small += 1;
      else this.#large += 1;
      chosen.start();
    }
  }

  /** The largest one; a small one where none is under way and this is the last free place. Of equal ones the first that came. */
  #choose(): Waiting {
    const small = this.#waiting.find(({ size }) => size <= SMALL_BLOB);
    if (small && this.#small === 0 && this.#large === this.#count - 1 && this.#count > 1) return small;
    return this.#waiting.reduce((largest, one) => (one.size > largest.size ? one : largest));
  }
}
