/** Cuts at random places of the stream of all bodies, the same for the same seed. */
import { randomFrom } from '../random.ts';

export interface CutPlan {
  /** How many cuts in all. */
  readonly cuts: number;
  /** They fall somewhere in the first so many bytes of all bodies, what is sent again included. */
  readonly within: number;
  /** Whether about half of them drop the answer of the request that is going on, instead of cutting its body. */
  readonly answersToo?: boolean;
}

interface Cut {
  readonly at: number;
  readonly drops: boolean;
}

/** What a piece of a body meets: all of it passes, or so many bytes and then a cut, or its request's answer will be dropped. */
export interface Passage {
  readonly bytes: number;
  readonly next: 'on' | 'cut' | 'drop';
}

/** Counts the bytes of all bodies and says where the next cut falls. */
export class Cutter {
  readonly #random: () => number;
  #left: Cut[] = [];
  #passed = 0;
  /** Cuts that were made. */
  made = 0;

  constructor(seed: number) {
    this.#random = randomFrom(seed);
  }

  /** Plans cuts from here on, in place of those that were planned before. */
  plan({ cuts, within, answersToo = false }: CutPlan): void {
    const start = this.#passed;
    this.#left = Array.from({ length: cuts }, () => ({
      at: start + Math.floor(this.#random() * within),
      drops: answersToo && this.#random() < 0.5,
    })).sort((one, other) => one.at - other.at);
  }

  /** Cuts that are still to come. */
  get pending(): number {
    return this.#left.length;
  }

  /** Counts a piece of a body in. */
  pass(length: number): Passage {
    const [cut] = this.#left;
    if (cut === undefined || cut.at >= this.#passed + length) {
      this.#passed += length;
      return { bytes: length, next: 'on' };
    }
    this.#left.shift();
    this.made += 1;
    const bytes = cut.drops ? length : Math.max(0, cut.at - this.#passed);
    this.#passed += bytes;
    return { bytes, next: cut.drops ? 'drop' : 'cut' };
  }
}
