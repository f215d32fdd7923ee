import { describe, expect, it } from 'vitest';
import { formatBytes, formatPercent, formatSeconds, plural } from '../../src/report/format.ts';

describe('formatBytes', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1 kB'],
    [999_499, '999 kB'],
    [999_500, '1 MB'],
    [99_614_720, '99.6 MB'],
    [742_000_000, '742 MB'],
    [1_600_000_000, '1.6 GB'],
    [5_000_000_000_000_000, '5000 TB'],
  ])('%d bytes are %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });
});

describe('formatSeconds', () => {
  it.each([
    [0, '0 s'],
    [0.42, '0.4 s'],
    [9.94, '9.9 s'],
    [9.96, '10 s'],
    [59.4, '59 s'],
    [59.6, '1 min'],
    [185, '3 min 5 s'],
    [3720, '1 h 2 min'],
  ])('%d seconds are %s', (seconds, text) => {
    expect(formatSeconds(seconds)).toBe(text);
  });
});

describe('formatPercent', () => {
  it('never says 100% before all is there', () => {
    expect(formatPercent(999_999, 1_000_000)).toBe('99%');
    expect(formatPercent(1_000_000, 1_000_000)).toBe('100%');
    expect(formatPercent(0, 0)).toBe('100%');
  });
});

describe('plural', () => {
  it('counts', () => {
    expect(plural(1, 'retry', 'retries')).toBe('1 retry');
    expect(plural(2, 'retry', 'retries')).toBe('2 retries');
    expect(plural(0, 'blob')).toBe('0 blobs');
  });
});
