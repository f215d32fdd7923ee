import { describe, expect, it } from 'vitest';
import { HostCapabilities } from '../../../src/registry/host/capabilities.ts';
import type { HostContext, RegistryEvent } from '../../../src/registry/host/context.ts';
import { Patience, type Task } from '../../../src/registry/host/patience.ts';
import { profileFor } from '../../../src/registry/host/profiles.ts';
import { Backoff, BodyScheduler } from '../../../src/registry/host/throttle.ts';
import { RegistryError, type RegistryErrorInit, UploadError } from '../../../src/registry/http/error.ts';

const url = new URL('https://registry.example/v2/a/b');
const MINUTE = 60_000;

const errorOf = (init: Partial<RegistryErrorInit>): RegistryError =>
  new RegistryError({ kind: 'status', method: 'PATCH', url, reason: 'it failed', temporary: true, ...init });

const AWAY = errorOf({ kind: 'refused' });
const BAD_GATEWAY = errorOf({ status: 502 });
const FAILURE = errorOf({ status: 500 });
const limited = (headers = {}) => errorOf({ kind: 'limited', status: 429, headers });

interface Options {
  readonly answered?: boolean;
  readonly maxRetries?: number;
  readonly maxWait?: number;
  readonly task?: Partial<Task>;
}

/** A task that fails again and again: how long it waits each time, and what ends it. */
function tried({ answered = true, maxRetries = 3, maxWait = 10 * MINUTE, task = {} }: Options = {}) {
  const waits: number[] = [];
  const events: RegistryEvent[] = [];
  let now = 5000;
  const clock = {
    now: () => now,
    random: () => 0.5,
    sleep: async (ms: number) => {
      waits.push(ms);
      now += ms;
    },
  };
  const backoff = new Backoff({ clock, maxWait });
  if (answered) backoff.answered(url);
  const onEvent = (event: RegistryEvent): void => void events.push(event);
  const host = new HostCapabilities({ host: url.host, profile: profileFor(url.host), chunkSize: 'auto', onEvent });
  const context: HostContext = {
    transport: { origin: url, send: () => Promise.reject(new Error('nothing is sent')) },
    backoff,
    host,
    bodies: new BodyScheduler(),
    maxRetries,
    maxWait,
    onEvent,
  };
  const patience = new Patience(context, { label: 'layer', signal: new AbortController().signal, ...task });
  /** Fails with these errors, the last of them over and over, until it gives up or `times` failures were borne. */
  const fail = async (errors: readonly RegistryError[], times = 2000): Promise<string> => {
    for (let n = 0; n < times; n += 1) {
      try {
        await patience.failed(errors[Math.min(n, errors.length - 1)]!);
      } catch (error) {
        expect(error).toBeInstanceOf(UploadError);
        return (error as Error).message;
      }
    }
    return 'it goes on';
  };
  const total = (): number => waits.reduce((sum, ms) => sum + ms, 0);
  return { patience, waits, events, fail, total };
}

describe('a host that is away', () => {
  it.each([
    ['refuses connections', [AWAY]],
    ['is behind a gateway', [BAD_GATEWAY]],
    ['both, in turns', [AWAY, BAD_GATEWAY, AWAY, errorOf({ status: 503 }), errorOf({ kind: 'timeout' })]],
    ['has lost its name', [errorOf({ kind: 'dns', temporary: false })]],
  ])('%s: is waited for as long as max-wait, in pauses that grow to 30 s', async (_, errors) => {
    const { fail, waits, total } = tried();
    expect(await fail(errors)).toMatch(/^layer: gave up after 10 min without progress \(max-wait: 10 min\): PATCH/);
    expect(total()).toBe(10 * MINUTE);
    expect(waits.slice(0, 4)).toEqual([375, 750, 1500, 3000]);
    expect(Math.max(...waits)).toBe(22_500);
  });

  it.each([5, 20, 60])('is outlasted for %d s with the defaults, whatever the jitter', async (seconds) => {
    const { fail, total } = tried();
    let failures = 0;
    while (total() < seconds * 1000) {
      failures += 1;
      expect(await fail([AWAY], 1)).toBe('it goes on');
    }
    expect(failures).toBeLessThan(12);
  });

  it('is reported once, not at the first failure', async () => {
    const { fail, events } = tried();
    await fail([AWAY], 5);
    expect(events.map(({ type }) => type)).toEqual(['retry', 'waiting', 'retry', 'retry', 'retry', 'retry']);
    expect(events[1]).toMatchObject({ host: url.host, limited: false, maxWaitMs: 10 * MINUTE - 375 });
    expect(events.slice(2).every((event) => event.type === 'retry' && event.waiting === true)).toBe(true);
  });

  it('starts anew after progress', async () => {
    const { fail, patience, total } = tried({ maxWait: MINUTE });
    while (total() < MINUTE - 10_000) await fail([AWAY], 1);
    patience.progress();
    const before = total();
    await fail([AWAY]);
    expect(total() - before).toBe(MINUTE);
  });

  it('without any patience still gets its tries', async () => {
    const { fail, waits } = tried({ maxWait: 0 });
    expect(await fail([AWAY])).toMatch(/\(max-wait: 0 s\)/);
    expect(waits).toHaveLength(3);
  });

  it('is no typo only if it has answered before: else max-retries, in seconds', async () => {
    const { fail, waits, total } = tried({ answered: false });
    expect(await fail([AWAY])).toBe(
      `layer: gave up after 4 failed tries without progress (max-retries: 3): ${AWAY.message}`,
    );
    expect(waits).toEqual([375, 750, 1500]);
    expect(total()).toBeLessThan(5000);
  });
});

describe('a registry that fails itself', () => {
  it.each([1, 2, 3, 5])('is tried %d times more, within about half a minute', async (maxRetries) => {
    const { fail, waits, total } = tried({ maxRetries });
    expect(await fail([FAILURE])).toMatch(new RegExp(`\\(max-retries: ${maxRetries}\\): PATCH`));
    expect(waits).toHaveLength(maxRetries);
    expect(total()).toBeGreaterThan(25_000);
    expect(total()).toBeLessThan(35_000);
    expect([...waits].sort((one, other) => one - other)).toEqual(waits);
  });

  it('has its tries counted apart from an outage', async () => {
    const { fail } = tried();
    expect(await fail([FAILURE, FAILURE, AWAY, AWAY, AWAY, AWAY, FAILURE], 7)).toBe('it goes on');
    expect(await fail([FAILURE])).toMatch(/4 failed tries without progress \(max-retries: 3\)/);
  });

  it('without retries fails at once', async () => {
    const { fail, waits } = tried({ maxRetries: 0 });
    expect(await fail([FAILURE])).toMatch(/gave up after 1 failed try \(max-retries: 0\)/);
    expect(waits).toEqual([]);
  });
});

describe('a registry that asks for fewer requests', () => {
  it('is left alone as long as it says', async () => {
    const { fail, waits, events } = tried();
    await fail([limited({ 'retry-after': '90' })], 1);
    expect(waits).toEqual([90_000]);
    expect(events[0]).toMatchObject({ type: 'waiting', limited: true });
  });

  it('by 403 is left alone for a minute and longer each time when it does not say', async () => {
    const { fail, waits, total } = tried();
    expect(await fail([errorOf({ kind: 'limited', status: 403 })])).toMatch(/\(max-wait: 10 min\)/);
    expect(waits).toEqual([67_500, 135_000, 270_000, 127_500]);
    expect(total()).toBe(10 * MINUTE);
  });

  // A minute at once leaves five tries: a registry that refuses half of all requests fails one request of 32 then.
  it('by 429 is left alone for a second at first, for a minute in the end, when it does not say', async () => {
    const { fail, waits, total } = tried();
    expect(await fail([limited()])).toMatch(/\(max-wait: 10 min\)/);
    expect(waits.slice(0, 8)).toEqual([1125, 1688, 2531, 3797, 5695, 8543, 12_814, 19_222]);
    expect(waits).toHaveLength(18);
    expect(total()).toBe(10 * MINUTE);
  });

  it('is asked less often when it says one second each time', async () => {
    const { fail, waits } = tried();
    await fail([limited({ 'retry-after': '1' })], 8);
    expect(waits).toEqual([1000, 1000, 1500, 3000, 6000, 12_000, 22_500, 22_500]);
  });

  it('is not waited for when it asks for more than is left', async () => {
    const { fail, waits } = tried();
    expect(await fail([limited({ 'retry-after': '21600' })])).toMatch(
      /^layer: gave up after 0 s without progress \(max-wait: 10 min; it asks to wait 360 min\)/,
    );
    expect(waits).toEqual([]);
  });

  it('by 503 with Retry-After is left alone like any other', async () => {
    const { fail, waits } = tried();
    await fail([errorOf({ status: 503, headers: { 'retry-after': '45' } })], 1);
    expect(waits).toEqual([45_000]);
  });
});

it('an error without a remedy gets the one of the task', async () => {
  const { patience } = tried({ maxRetries: 0, task: { remedy: () => 'set chunk-size to less' } });
  await expect(patience.failed(FAILURE)).rejects.toMatchObject({ remedy: 'set chunk-size to less' });
});
