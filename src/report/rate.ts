/** How fast bytes go, over the last seconds: an average since the start would still speak of the fast first half of a push. */

/** Long enough to bridge the wait between two chunks, short enough to notice a link that has become slow. Milliseconds. */
const WINDOW_MS = 10_000;

/** Samples nearer than this tell nothing new. Milliseconds. */
const SAMPLE_MS = 200;

interface Sample {
  readonly at: number;
  readonly bytes: number;
}

export class Rate {
  readonly #now: () => number;
  #samples: Sample[] = [];

  /** `now` gives milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Notes how many bytes have gone in all; fewer than before when bytes must be sent again. */
  note(bytes: number): void {
    const at = this.#now();
    const samples = this.#samples;
    if (samples.length > 1 && at - samples.at(-2)!.at < SAMPLE_MS) samples.pop();
    samples.push({ at, bytes });
    // The sample before the window's begin stays: it says where the window began.
    while (samples.length > 2 && at - samples[1]!.at >= WINDOW_MS) samples.shift();
  }

  /** Bytes a second; 0 while that can't be said. */
  get value(): number {
    const [first] = this.#samples;
    const last = this.#samples.at(-1);
    if (!first || !last) return 0;
    const seconds = (this.#now() - first.at) / 1000;
    return seconds > 0 ? Math.max(0, last.bytes - first.bytes) / seconds : 0;
  }
}
