import { describe, expect, it } from 'vitest';
import { Backoff, retryAfter } from '../../../src/registry/host/backoff.ts';
import { isTransientStatus } from '../../../src/registry/http/error.ts';
import { never } from '../helpers/loopback.ts';

function clock(random = 0.5) {
  const slept: number[] = [];
  let now = Date.parse('2026-01-01T00:00:00Z');
  return {
    slept,
    now: () => now,
    random: () => random,
    sleep: async (ms: number) => {
      slept.push(ms);
      now += ms;
    },
  };
}

describe('retryAfter', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  it.each([
    ['7', 7000],
    ['0', 0],
    [' 3 ', 3000],
    ['Thu, 01 Jan 2026 00:00:10 GMT', 10_000],
    ['Wed, 31 Dec 2025 00:00:00 GMT', 0],
    ['86400', 120_000],
    ['Fri, 01 Jan 2027 00:00:00 GMT', 120_000],
    ['999999999999999999999', 120_000],
    ['', undefined],
    ['soon', undefined],
    [undefined, undefined],
  ])('%s is %s ms', (value, ms) => expect(retryAfter(value, now)).toBe(ms));
});

describe('Backoff', () => {
  it('grows exponentially with full jitter, from 0.5 s to 30 s', async () => {
    const delays = (random: number) =>
      [0, 1, 2, 3, 4, 5, 6, 50].map((attempt) => new Backoff(clock(random)).delay(attempt));
    expect(delays(0)).toEqual(Array(8).fill(0));
    expect(delays(0.5)).toEqual([250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
    expect(Math.max(...delays(0.999_999))).toBe(30_000);
  });

  it('waits as long as the answer asks for, when that is longer', async () => {
    const time = clock();
    const backoff = new Backoff(time);
    expect(await backoff.wait(0, { status: 429, headers: { 'retry-after': '9' } }, never())).toBe(9000);
    expect(await backoff.wait(3, { status: 500, headers: { 'retry-after': '1' } }, never())).toBe(2000);
    expect(await backoff.wait(0, {}, never())).toBe(250);
  });

  it.each([429, 503])('holds everybody back after a %i with Retry-After, spread a little', async (status) => {
    const time = clock();
    const backoff = new Backoff(time);
    await backoff.ready(never());
    expect(time.slept).toEqual([]);
    backoff.note({ status, headers: { 'retry-after': '5' } });
    await backoff.ready(never());
    expect(time.slept).toEqual([5250]);
    await backoff.ready(never());
    expect(time.slept).toEqual([5250]);
  });

  it('lets the others go on after a 500, and after a 429 without Retry-After', async () => {
    const time = clock();
    const backoff = new Backoff(time);
    backoff.note({ status: 500, headers: { 'retry-after': '5' } });
    backoff.note({ status: 429, headers: {} });
    await backoff.ready(never());
    expect(time.slept).toEqual([]);
  });

  it('ends with the signal, with its reason', async () => {
    const backoff = new Backoff();
    const reason = new Error('SIGTERM');
    const controller = new AbortController();
    const waiting = backoff.wait(0, { status: 429, headers: { 'retry-after': '60' } }, controller.signal);
    const held = backoff.ready(controller.signal);
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    await expect(held).rejects.toBe(reason);
    await expect(backoff.wait(0, {}, controller.signal)).rejects.toBe(reason);
  });
});

describe('isTransientStatus', () => {
  it('is true for what may pass, and for nothing else', () => {
    const all = Array.from({ length: 500 }, (_, n) => n + 100);
    expect(all.filter(isTransientStatus)).toEqual([408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524]);
  });
});
