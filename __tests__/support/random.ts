/** Chance that can be had again: numbers that are the same in every run with the same seed (mulberry32). */
import { createHash } from 'node:crypto';

/** Gives numbers in [0, 1). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Gives whole numbers from 0 to below its argument. */
export function randomBelow(seed: string): (below: number) => number {
  const random = randomFrom(createHash('sha256').update(seed).digest().readUInt32LE(0));
  return (below) => Math.floor(random() * below);
}
