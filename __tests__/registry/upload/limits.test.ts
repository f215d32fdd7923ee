import { expect, it } from 'vitest';
import { UploadLimits } from '../../../src/registry/upload/metrics.ts';

it('closing requests have a count that progress does not start anew', () => {
  const limits = new UploadLimits(1);
  expect(limits.closingFailed()).toBe(true);
  limits.progress(1);
  expect(limits.closingFailed()).toBe(false);
});

it('sessions that were lost since the last progress are counted', () => {
  const limits = new UploadLimits(3);
  limits.sessionLost(100);
  limits.sessionLost(100);
  expect(limits.lostSinceProgress).toBe(2);
  limits.progress(5);
  expect(limits.lostSinceProgress).toBe(0);
});

it('sessions may be lost as long as each gets further, and else ten times', () => {
  const limits = new UploadLimits(3);
  for (let offset = 1; offset <= 50; offset += 1) {
    limits.progress(offset);
    expect(limits.sessionLost(100)).toBe(true);
  }
  const standing = Array.from({ length: 10 }, () => {
    limits.progress(7);
    return limits.sessionLost(100);
  });
  expect(standing).toEqual([...Array<boolean>(9).fill(true), false]);
});

it('a session with smaller chunks than those before is counted anew', () => {
  const limits = new UploadLimits(3);
  const lost = (chunk: number, times: number): boolean[] =>
    Array.from({ length: times }, () => limits.sessionLost(chunk));
  expect(lost(100, 9)).not.toContain(false);
  expect(lost(50, 9)).not.toContain(false);
  // Larger ones again are no new attempt.
  expect(lost(100, 2)).toEqual([true, false]);
});
