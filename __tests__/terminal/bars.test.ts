import { describe, expect, it } from 'vitest';
import type { PushEvent } from '../../src/push/events.ts';
import { type Moving, Progress } from '../../src/report/progress.ts';
import { blobRow, totalRow } from '../../src/terminal/bars.ts';

const HOST = 'registry.example.com';
const NAME = '3f2a9c0d1e2b';
const MB = 1_000_000;

const blob = (changes: Partial<Moving> = {}): Moving => ({
  label: NAME,
  host: HOST,
  sent: 50 * MB,
  confirmed: 40 * MB,
  size: 200 * MB,
  rate: 10 * MB,
  ...changes,
});

describe('blobRow', () => {
  it('has bar, percent, bytes, rate and time left', () => {
    expect(blobRow(blob(), NAME, undefined, 100)).toBe(
      '3f2a9c0d1e2b [========                      ]  25%  50 MB of 200 MB  10 MB/s  15 s left',
    );
  });

  it('has no percent while the blob is still being made', () => {
    expect(blobRow(blob({ size: undefined }), NAME, undefined, 100)).toBe(
      `3f2a9c0d1e2b [${'·'.repeat(30)}]  50 MB sent  10 MB/s  being read`,
    );
  });

  it('is not at 100% before the registry has confirmed it', () => {
    const row = blobRow(blob({ sent: 200 * MB }), NAME, undefined, 100);
    expect(row).toContain('99%  200 MB of 200 MB  waiting for the registry');
  });

  it('says when a blob that failed is tried again', () => {
    expect(blobRow(blob(), NAME, 1500, 100)).toContain('trying again in 1.5 s');
    expect(blobRow(blob(), NAME, -1, 100)).toMatch(/trying again$/);
  });

  it.each([
    [80, '3f2a9c0d1e2b [======                ]  25%  50 MB of 200 MB  10 MB/s  15 s left'],
    [60, '3f2a9c0d1e2b  25%  50 MB of 200 MB  10 MB/s  15 s left'],
    [40, '3f2a9c0d1e2b  25%  50 MB of 200 MB  10 '],
    [10, '3f2a9c0d1'],
  ])('fits into %d columns', (columns, row) => {
    expect(blobRow(blob(), NAME, undefined, columns)).toBe(row);
    expect(row.length).toBeLessThan(columns);
  });

  it('can show an empty blob', () => {
    expect(blobRow(blob({ sent: 0, confirmed: 0, size: 0, rate: 0 }), NAME, undefined, 80)).toContain('0 B of 0 B');
  });
});

describe('totalRow', () => {
  const totalAfter = (...events: readonly PushEvent[]): string => {
    let now = 0;
    const progress = new Progress(() => now);
    for (const event of events) {
      progress.note(event);
      now += 1000;
    }
    return totalRow(progress, 'total', 100);
  };
  const start = (label: string, size?: number): PushEvent => ({ type: 'blob-start', label, host: HOST, size });
  const progress = (label: string, sent: number, size?: number): PushEvent => ({
    type: 'blob-progress',
    label,
    host: HOST,
    sent,
    confirmed: sent,
    size,
  });

  it('sums up what moves', () => {
    const row = totalAfter(start('a', 100 * MB), start('b', 300 * MB), progress('a', 40 * MB, 100 * MB));
    expect(row).toContain('10%  40 MB of 400 MB  13.3 MB/s  27 s left');
  });

  it('tells how far reading is while sizes are not known', () => {
    const made: PushEvent = { type: 'made', read: 90 * MB, written: 40 * MB };
    const row = totalAfter(start('a', 100 * MB), start('b'), made, progress('a', 40 * MB, 100 * MB));
    expect(row).toBe('total  90 MB read, 40 MB sent  10 MB/s  being read');
  });
});
