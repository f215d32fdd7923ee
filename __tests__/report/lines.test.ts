import { describe, expect, it } from 'vitest';
import type { PushEvent } from '../../src/push/events.ts';
import { EventLines } from '../../src/report/lines.ts';

const HOST = 'registry.example.com';

function tellAll(events: readonly (PushEvent | number)[], showHost = false): string[] {
  let now = 0;
  const lines = new EventLines({ showHost, now: () => now });
  return events.flatMap((event) => {
    if (typeof event !== 'number') return lines.of(event).map(({ text }) => text);
    now += event;
    return [];
  });
}

const start: PushEvent = { type: 'blob-start', label: 'aaaa', host: HOST, size: 200_000_000 };
const progress = (sent: number, confirmed = 0): PushEvent => ({
  type: 'blob-progress',
  label: 'aaaa',
  host: HOST,
  sent,
  confirmed,
  size: 200_000_000,
});
const end: PushEvent = {
  type: 'blob-end',
  label: 'aaaa',
  host: HOST,
  digest: `sha256:${'a'.repeat(64)}`,
  size: 200_000_000,
  fate: 'uploaded',
  seconds: 21,
  retries: 1,
  fromCache: false,
};

describe('EventLines', () => {
  it('tells when a blob starts and ends, with size, seconds and retries', () => {
    expect(tellAll([start, progress(1), progress(2), end])).toEqual([
      'aaaa: uploading 200 MB',
      'aaaa: uploaded, 200 MB in 21 s (1 retry)',
    ]);
  });

  it('does not say that it uploads what turns out to be there', () => {
    const exists = { ...end, fate: 'exists', retries: 0 } as PushEvent;
    expect(tellAll([start, exists, start, end])).toEqual([
      'aaaa: exists already, 200 MB',
      'aaaa: uploaded, 200 MB in 21 s (1 retry)',
    ]);
  });

  it('tells progress at most every five seconds, with percent, rate and time left', () => {
    const lines = tellAll([
      start,
      progress(10_000_000),
      1000,
      progress(20_000_000),
      4000,
      progress(100_000_000),
      100,
      progress(110_000_000),
    ]);
    expect(lines).toEqual(['aaaa: uploading 200 MB', '50% of 200 MB sent, 20 MB/s, 5 s left']);
  });

  it('is quiet when nothing moves', () => {
    const lines = tellAll([start, progress(0), 6000, progress(0), 6000, progress(0)]);
    expect(lines).toEqual(['0% of 200 MB sent']);
  });

  it('says when all is sent and the registry has yet to confirm it', () => {
    const lines = tellAll([start, progress(1), 6000, progress(200_000_000, 150_000_000)]);
    expect(lines.slice(1)).toEqual(['200 MB sent, waiting for the registry to confirm 50 MB']);
  });

  it('tells how far compression is while sizes are not known', () => {
    const made: PushEvent = { type: 'made', read: 300_000_000, written: 120_000_000 };
    const lines = tellAll([{ ...start, size: undefined } as PushEvent, 6000, made]);
    expect(lines).toEqual(['0 B sent, 300 MB read, 120 MB compressed so far']);
  });

  it('says why a try failed and how long it waits', () => {
    const retry: PushEvent = {
      type: 'retry',
      label: 'aaaa',
      host: HOST,
      reason: '502 Bad Gateway',
      attempt: 2,
      waitMs: 1500,
    };
    expect(tellAll([retry])).toEqual(['aaaa: try 2 failed: 502 Bad Gateway; again in 1.5 s']);
  });

  it('names the registry when there are several', () => {
    expect(tellAll([start, progress(1)], true)).toEqual([`aaaa at ${HOST}: uploading 200 MB`]);
  });

  it('says which limit was found', () => {
    expect(tellAll([{ type: 'limit', host: HOST, bytes: 49_807_360, announced: false }])).toEqual([
      `${HOST} refuses larger requests: chunks of 49.8 MB (49807360 bytes) from now on`,
    ]);
  });
});
