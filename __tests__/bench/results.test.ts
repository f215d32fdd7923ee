import { describe, expect, it } from 'vitest';
import { type Attempt, median, medianSeconds, type Results, withAttempt } from '../../scripts/bench/results.ts';
import { targetsOf } from '../../scripts/bench/targets.ts';

const attempt = (seconds: number, more: Partial<Attempt> = {}): Attempt => ({
  seconds,
  clientCpu: 1,
  daemonCpu: 0,
  registryCpu: 0,
  peakDisk: 0,
  stored: 0,
  ...more,
});

const EMPTY: Results = { rows: {}, versions: {} };

describe('results of the benchmark', () => {
  it('are medians: the middle one, or the mean of the two in the middle', () => {
    expect(median([9, 1, 5])).toBe(5);
    expect(median([4, 1, 2, 9])).toBe(3);
    expect(median([])).toBeNaN();
  });

  it('gather the rounds of one run, and forget those of an earlier one', () => {
    const first = withAttempt(withAttempt(EMPTY, 'a', 'run 1', attempt(1)), 'a', 'run 1', attempt(2));
    expect(first.rows.a?.attempts.map(({ seconds }) => seconds)).toEqual([1, 2]);
    const second = withAttempt(first, 'a', 'run 2', attempt(3));
    expect(second.rows.a).toEqual({ run: 'run 2', attempts: [attempt(3)] });
  });

  it('have no time for what failed once', () => {
    const row = { run: 'x', attempts: [attempt(1), attempt(2, { failed: '413' })] };
    expect(medianSeconds(row)).toBeUndefined();
    expect(medianSeconds(undefined)).toBeUndefined();
  });

  it('are held against what was asked for only where both sides were measured', () => {
    const ours = withAttempt(EMPTY, '1.6gb/overlay2-cold/chunked-push zstd, store', 'r', attempt(4));
    const asked = (results: Results) =>
      targetsOf(results).find(({ text }) => text === 'overlay2, zstd : `docker push`');
    expect(asked(ours)?.measured).toBeUndefined();
    expect(asked(withAttempt(ours, '1.6gb/overlay2-cold/docker push', 'r', attempt(16)))?.measured).toBe(0.25);
  });

  it('take the largest peak of all sizes and ways', () => {
    const small = withAttempt(EMPTY, '0.2gb/memory/chunked-push gzip, save', 'r', attempt(1, { peakMemory: 90e6 }));
    const both = withAttempt(small, '3.2gb/memory/chunked-push zstd, store', 'r', attempt(1, { peakMemory: 180e6 }));
    expect(targetsOf(both).find(({ about }) => about === 'constants')?.measured).toBe(180);
  });
});
