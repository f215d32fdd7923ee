import { describe, expect, it } from 'vitest';
import { CookieJar } from '../../../src/registry/upload/session.ts';

const at = (path: string, scheme = 'https'): URL => new URL(`${scheme}://r.test${path}`);

describe('CookieJar', () => {
  it('keeps cookies for their path', () => {
    const jar = new CookieJar();
    jar.store(at('/v2/a/uploads/1'), ['lb=one', 'all=x; Path=/', 'deep=y; path=/v2/a']);
    expect(jar.header(at('/v2/a/uploads/2'))).toBe('lb=one; all=x; deep=y');
    expect(jar.header(at('/v2/a'))).toBe('all=x; deep=y');
    expect(jar.header(at('/v2/ab'))).toBe('all=x');
    expect(new CookieJar().header(at('/'))).toBeUndefined();
  });

  it('replaces and removes', () => {
    const jar = new CookieJar();
    jar.store(at('/a/b'), ['x=1', 'y=1', 'z=1']);
    jar.store(at('/a/c'), ['x=2', 'y=; Max-Age=0', 'z=; Expires=Thu, 01 Jan 1970 00:00:00 GMT']);
    expect(jar.header(at('/a/d'))).toBe('x=2');
    jar.store(at('/a/c'), ['y=3; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT']);
    expect(jar.header(at('/a/d'))).toBe('x=2; y=3');
  });

  it('keeps Secure ones off plain HTTP', () => {
    const jar = new CookieJar();
    jar.store(at('/a'), ['s=1; Secure; Path=/', 'p=1; Path=/']);
    expect(jar.header(at('/a', 'http'))).toBe('p=1');
    expect(jar.header(at('/a'))).toBe('s=1; p=1');
  });

  it('takes no nonsense, and not without end', () => {
    const jar = new CookieJar();
    jar.store(at('/'), ['', '=x', 'novalue', 'a=b\r\nX: y', `long=${'x'.repeat(5000)}`, 'ok=1']);
    expect(jar.header(at('/'))).toBe('ok=1');
    jar.store(
      at('/'),
      Array.from({ length: 100 }, (_, n) => `c${n}=1`),
    );
    expect(jar.header(at('/'))!.split('; ')).toHaveLength(20);
  });
});
