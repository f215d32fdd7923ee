import { describe, expect, it } from 'vitest';
import { TokenCache } from '../../../src/registry/auth/token.ts';
import { never } from '../helpers/loopback.ts';

const MINUTE = 60_000;

describe('TokenCache', () => {
  it.each([
    [5 * MINUTE, 4 * MINUTE],
    [2 * MINUTE, 1.5 * MINUTE],
    [5_000, 3_750],
  ])('renews a token of %i ms after %i ms', async (lifetime, renewal) => {
    let now = 1000;
    let fetched = 0;
    const cache = new TokenCache(() => now);
    const get = () => cache.get('s', never(), async () => ({ value: `t${++fetched}`, lifetime }));
    expect(await get()).toBe('t1');
    now = 1000 + renewal - 1;
    expect(await get()).toBe('t1');
    now = 1000 + renewal;
    expect(await get()).toBe('t2');
  });

  it('keeps scopes apart, and forgets only the token that was refused', async () => {
    const cache = new TokenCache();
    let fetched = 0;
    const get = (scopes: string) =>
      cache.get(scopes, never(), async () => ({ value: `t${++fetched}`, lifetime: MINUTE }));
    expect([await get('a'), await get('b')]).toEqual(['t1', 't2']);
    cache.forget('a', 'Bearer t0');
    expect(await get('a')).toBe('t1');
    cache.forget('a', 'Bearer t1');
    expect([await get('a'), await get('b')]).toEqual(['t3', 't2']);
  });

  it('forgets a failed fetch', async () => {
    const cache = new TokenCache();
    await expect(cache.get('a', never(), () => Promise.reject(new Error('busy')))).rejects.toThrow('busy');
    expect(await cache.get('a', never(), async () => ({ value: 't', lifetime: MINUTE }))).toBe('t');
  });
});
