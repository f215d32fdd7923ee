/** Numbers that are the same in every run: mulberry32 over a hash of the seed. */
import { createHash } from 'node:crypto';

/** Gives a function that gives whole numbers from 0 to below its argument. */
export function randomOf(seed: string): (below: number) => number {
  let state = createHash('sha256').update(seed).digest().readUInt32LE(0);
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * below);
  };
}
