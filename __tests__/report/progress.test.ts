import { describe, expect, it } from 'vitest';
import { Rate } from '../../src/report/progress.ts';

/** A rate that has heard of these bytes at these milliseconds; gives its value at `at`. */
const rateAt = (at: number, ...samples: readonly (readonly [at: number, bytes: number])[]): number => {
  let now = 0;
  const rate = new Rate(() => now);
  for (const [time, bytes] of samples) {
    now = time;
    rate.note(bytes);
  }
  now = at;
  return rate.value;
};

describe('Rate', () => {
  it('is nothing before there is anything to compare', () => {
    expect(rateAt(0)).toBe(0);
    expect(rateAt(0, [0, 100])).toBe(0);
  });

  it('is bytes over time', () => {
    expect(rateAt(2000, [0, 0], [1000, 500], [2000, 4000])).toBe(2000);
  });

  it('forgets what is longer ago than ten seconds', () => {
    const samples = Array.from({ length: 31 }, (_, second): [number, number] => [
      second * 1000,
      second <= 15 ? second * 1_000_000 : 15_000_000 + (second - 15) * 1000,
    ]);
    expect(rateAt(30_000, ...samples)).toBe(1000);
  });

  it('falls while nothing moves', () => {
    expect(rateAt(10_000, [0, 0], [1000, 10_000])).toBe(1000);
  });

  it('is never negative when bytes must be sent again', () => {
    expect(rateAt(2000, [0, 0], [1000, 5000], [2000, 0])).toBe(0);
  });

  it('keeps few samples of many notes', () => {
    const samples = Array.from({ length: 5000 }, (_, ms): [number, number] => [ms, ms * 3]);
    expect(rateAt(5000, ...samples)).toBeCloseTo(3000, -2);
  });
});
