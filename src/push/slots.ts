/**
 * Places for uploads: `concurrency` blobs at once. Of large ones the largest goes first, so that a long upload does not
 * begin last; one place is kept for small ones, so that what is short does not wait for what is long. Blobs that fit
 * into one packet or two (configs, attestations, layers of some files) go beside the others: they cost round trips and
 * no bandwidth, and in a second wave they would cost them twice. With `concurrency: 1` nothing goes beside anything.
 */

/** Up to this a blob is small: it takes a few round trips, and hardly any time to send. Bytes. */
export const SMALL_BLOB = 2 * 2 ** 20;

/** Up to this a blob goes beside the others. Bytes. */
export const TINY_BLOB = 64 * 2 ** 10;

/** Blobs under way at once, the tiny ones among them, for each place. */
const WITH_TINY = 2;

type Kind = 'tiny' | 'small' | 'large';

interface Waiting {
  readonly kind: Kind;
  readonly size: number;
  start(): void;
}

const kindOf = (size: number): Kind => (size <= TINY_BLOB ? 'tiny' : size <= SMALL_BLOB ? 'small' : 'large');

export class UploadSlots {
  readonly #count: number;
  #waiting: Waiting[] = [];
  readonly #running: Record<Kind, number> = { tiny: 0, small: 0, large: 0 };
  /** Those who said that small blobs may still come. */
  #expecting = 0;

  /** `count`: blobs under way at once. */
  constructor(count: number) {
    this.#count = count;
  }

  /** Runs `work` as soon as there is a place. `size` in bytes; a blob whose size is not known is large. */
  async run<T>(size: number | undefined, work: () => Promise<T>): Promise<T> {
    const bytes = size ?? Number.POSITIVE_INFINITY;
    const kind = kindOf(bytes);
    await new Promise<void>((start) => {
      this.#waiting.push({ kind, size: bytes, start });
      this.#next();
    });
    try {
      return await work();
    } finally {
      this.#running[kind] -= 1;
      this.#next();
    }
  }

  /** Whether a blob of `size` bytes that is no large one would start at once. */
  hasPlace(size: number): boolean {
    const placed = this.#running.small + this.#running.large;
    const all = placed + this.#running.tiny;
    if (this.#count === 1) return all === 0;
    return all < this.#count * WITH_TINY && (kindOf(size) === 'tiny' || placed < this.#count);
  }

  /**
   * Keeps the small blobs' place though none of them waits: some may still come. Until the returned function is called,
   * which may be called more than once.
   */
  expectSmall(): () => void {
    this.#expecting += 1;
    let isExpected = true;
    return () => {
      if (!isExpected) return;
      isExpected = false;
      this.#expecting -= 1;
      this.#next();
    };
  }

  #next(): void {
    for (let chosen = this.#choose(); chosen !== undefined; chosen = this.#choose()) {
      const { kind, start } = chosen;
      this.#waiting = this.#waiting.filter((one) => one !== chosen);
      this.#running[kind] += 1;
      start();
    }
  }

  /** Which one starts next; undefined when none may. */
  #choose(): Waiting | undefined {
    const count = this.#count;
    const [tiny, small, large] = [this.#largest('tiny'), this.#largest('small'), this.#largest('large')];
    const placed = this.#running.small + this.#running.large;
    const all = placed + this.#running.tiny;
    // One after the other: the short ones first.
    if (count === 1) return all === 0 ? (tiny ?? small ?? large) : undefined;
    if (all >= count * WITH_TINY) return undefined;
    if (tiny !== undefined) return tiny;
    if (placed >= count) return undefined;
    const kept = small !== undefined || this.#expecting > 0 ? 1 : 0;
    return this.#running.large < count - kept ? (large ?? small) : small;
  }

  /** The largest that waits; of equal ones the first that came. */
  #largest(kind: Kind): Waiting | undefined {
    return this.#waiting
      .filter((one) => one.kind === kind)
      .reduce<Waiting | undefined>((most, one) => (most === undefined || one.size > most.size ? one : most), undefined);
  }
}
