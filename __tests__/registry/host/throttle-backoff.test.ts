import { describe, expect, it } from 'vitest';
import { Backoff } from '../../../src/registry/host/throttle.ts';
import { isTransientStatus, RegistryError, type RegistryErrorInit } from '../../../src/registry/http/error.ts';
import { never } from '../helpers/loopback.ts';

function clockAt(random = 0.5) {
  const slept: number[] = [];
  let now = 1_000_000;
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

const url = new URL('https://registry.example/v2/a/b');

const errorOf = (init: Partial<RegistryErrorInit>): RegistryError =>
  new RegistryError({ kind: 'status', method: 'GET', url, reason: 'it failed', temporary: true, ...init });

describe('Backoff', () => {
  it('grows exponentially with jitter over a floor, from 0.5 s to 30 s', () => {
    const delays = (random: number) =>
      [0, 1, 2, 3, 4, 5, 6, 50].map((attempt) => new Backoff({ clock: clockAt(random) }).delay(attempt));
    expect(delays(0)).toEqual([250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
    expect(delays(0.5)).toEqual([375, 750, 1500, 3000, 6000, 12_000, 22_500, 22_500]);
    expect(Math.max(...delays(0.999_999))).toBe(30_000);
  });

  it.each([429, 503, 403])('holds everything back after a %i with Retry-After, spread a little', async (status) => {
    const clock = clockAt();
    const backoff = new Backoff({ clock });
    await backoff.ready(never());
    expect(clock.slept).toEqual([]);
    backoff.note({ status, headers: { 'retry-after': '5' } });
    await backoff.ready(never());
    expect(clock.slept).toEqual([5250]);
    await backoff.ready(never());
    expect(clock.slept).toEqual([5250]);
  });

  it('lets the others go on after a 500, after a 429 without Retry-After, and when it asks for more than max-wait', async () => {
    const clock = clockAt();
    const backoff = new Backoff({ clock, maxWait: 60_000 });
    backoff.note({ status: 500, headers: { 'retry-after': '5' } });
    backoff.note({ status: 429, headers: {} });
    backoff.note({ status: 429, headers: { 'retry-after': '61' } });
    await backoff.ready(never());
    expect(clock.slept).toEqual([]);
  });

  it('ends with the signal, with its reason', async () => {
    const backoff = new Backoff();
    const reason = new Error('SIGTERM');
    const controller = new AbortController();
    backoff.hold(60_000);
    const held = backoff.ready(controller.signal);
    controller.abort(reason);
    await expect(held).rejects.toBe(reason);
  });

  it.each([
    [{ kind: 'refused' }, 'unknown', 'away'],
    [{ kind: 'reset' }, 'unknown', 'away'],
    [{ kind: 'timeout' }, 'unknown', 'away'],
    [{ kind: 'dns' }, 'unknown', 'away'],
    [{ status: 502 }, 'away', 'away'],
    [{ status: 503 }, 'away', 'away'],
    [{ status: 504 }, 'away', 'away'],
    [{ status: 521 }, 'away', 'away'],
    [{ status: 503, headers: { 'retry-after': '2' } }, 'limited', 'limited'],
    [{ kind: 'limited', status: 403 }, 'limited', 'limited'],
    [{ status: 500 }, 'failed', 'failed'],
    [{ kind: 'protocol' }, 'failed', 'failed'],
  ] as const)('%j is %s before the host has answered, and %s after', (init, before, after) => {
    const backoff = new Backoff();
    expect(backoff.troubleOf(errorOf(init))).toBe(before);
    backoff.answered(url);
    expect(backoff.troubleOf(errorOf(init))).toBe(after);
  });

  it('lets a name that was found before be looked up again', () => {
    const backoff = new Backoff();
    const error = errorOf({ kind: 'dns', temporary: false });
    expect(backoff.mayPass(error)).toBe(false);
    backoff.answered(new URL('https://another.example/'));
    expect(backoff.mayPass(error)).toBe(false);
    backoff.answered(url);
    expect(backoff.mayPass(error)).toBe(true);
  });

  it('says once that a host is waited for, and once that it answers again', async () => {
    const clock = clockAt();
    const backoff = new Backoff({ clock });
    backoff.answered(url);
    const error = errorOf({ status: 502, reason: '502 Bad Gateway' });
    const waiting = () => backoff.waiting(error, 'away', 'registry.example', 600_000);
    // One request may break by itself.
    expect(waiting()).toBeUndefined();
    expect(backoff.resumed('registry.example')).toBeUndefined();
    expect([waiting(), waiting(), waiting()]).toEqual([
      undefined,
      { type: 'waiting', host: 'registry.example', reason: error.message, limited: false, maxWaitMs: 600_000 },
      undefined,
    ]);
    await clock.sleep(20_000);
    expect(backoff.resumed('registry.example')).toEqual({
      type: 'resumed',
      host: 'registry.example',
      waitedMs: 20_000,
    });
    expect(backoff.resumed('registry.example')).toBeUndefined();
  });

  it('says at the first limit that it is waited for', () => {
    const backoff = new Backoff();
    const event = backoff.waiting(errorOf({ kind: 'limited' }), 'limited', 'registry.example', 1);
    expect(event).toMatchObject({ type: 'waiting', limited: true });
  });
});

describe('isTransientStatus', () => {
  it('is true for what may pass, and for nothing else', () => {
    const all = Array.from({ length: 500 }, (_, n) => n + 100);
    expect(all.filter(isTransientStatus)).toEqual([
      408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 530,
    ]);
  });
});
