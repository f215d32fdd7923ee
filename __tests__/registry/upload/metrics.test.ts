import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ReadableBlob } from '../../../src/blob/blob.ts';
import { SlowRequest, UploadLimits, UploadMetrics } from '../../../src/registry/upload/metrics.ts';
import { timeByHand } from '../helpers/loopback.ts';
import { bytesOf, KIB, knownBody, MIB } from './client.ts';

const SIZE = 8 * MIB;
const BYTES = bytesOf(SIZE, 'metrics');

describe('a request with a body', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'hrtime'] });
  });

  afterEach(() => {
    vi.useRealTimers();
  });

  /** Sends at a speed (bytes a second) for some seconds; whether it was cut off by then, and after how many seconds. */
  function cutAfter(bytesPerSecond: number, seconds: number): number | undefined {
    const metrics = new UploadMetrics();
    const source = new Readable({ read() {} });
    const body: ReadableBlob = { ...knownBody(BYTES), read: () => source };
    const request = metrics.metered(body, { start: 0, end: SIZE });
    if (request instanceof Uint8Array) throw new Error('not a body that is opened');
    request.open();
    const slow = new SlowRequest(metrics, SIZE);
    try {
      for (let second = 1; second <= seconds; second += 1) {
        if (bytesPerSecond > 0) source.emit('data', BYTES.subarray(0, bytesPerSecond));
        if (metrics.taken >= SIZE) source.emit('end');
        vi.advanceTimersByTime(1000);
        if (slow.signal.aborted) return second;
      }
      return undefined;
    } finally {
      slow.done();
    }
  }

  it('that would take longer than a minute is cut off when that is clear', () => {
    expect(cutAfter(64 * KIB, 60)).toBe(10);
    expect(cutAfter(130 * KIB, 60)).toBe(10);
  });

  it('that takes less is not', () => {
    expect(cutAfter(145 * KIB, 60)).toBeUndefined();
    expect(cutAfter(MIB, 60)).toBeUndefined();
  });

  it('that waits for its answer with all bytes sent is not', () => {
    expect(cutAfter(SIZE, 300)).toBeUndefined();
  });

  it('of which nothing was taken is left to the time-outs', () => {
    expect(cutAfter(0, 300)).toBeUndefined();
  });
});

describe('the duration of a request', () => {
  it('begins with the opening of its body: what it waited for before is not the speed of the link', async () => {
    const metrics = new UploadMetrics();
    const body = metrics.metered(knownBody(BYTES), { start: 0, end: KIB });
    const pass = timeByHand();
    await metrics.timed(async () => {
      pass(60);
      if (!(body instanceof Uint8Array)) body.open();
      pass(15);
    });
    expect(metrics.lastMs).toBe(15);
    expect(metrics.waitedMs + metrics.sendingMs).toBe(75);
  });
});

describe('limits of an upload', () => {
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
});
