import { expect, it } from 'vitest';
import { resolveLocation, withDigest } from '../../../src/registry/upload/session.ts';
import { randomFrom } from '../../support/random.ts';

const REQUEST = new URL('https://registry.example:5000/v2/team/app/blobs/uploads/');
const DIGEST = `sha256:${'ab'.repeat(32)}` as const;

it.each([
  ['/v2/team/app/blobs/uploads/1', 'https://registry.example:5000/v2/team/app/blobs/uploads/1'],
  ['1?_state=x', 'https://registry.example:5000/v2/team/app/blobs/uploads/1?_state=x'],
  ['?_state=y', 'https://registry.example:5000/v2/team/app/blobs/uploads/?_state=y'],
  ['https://other.example/upload/1', 'https://other.example/upload/1'],
  ['//other.example/upload/1', 'https://other.example/upload/1'],
  [' /v2/x#part ', 'https://registry.example:5000/v2/x'],
])('%j leads to %j', (header, url) => {
  expect(resolveLocation(header, REQUEST)?.href).toBe(url);
});

it.each([undefined, '', '  ', 'http://', 'https://host:port/'])('%j leads nowhere', (header) => {
  expect(resolveLocation(header, REQUEST)).toBeUndefined();
});

it.each([
  ['https://r.example/u/1', 'https://r.example/u/1?digest=sha256%3A'],
  ['https://r.example/u/1?', 'https://r.example/u/1?digest=sha256%3A'],
  ['https://r.example/u/1?_state=a%2Bb%3D%3D', 'https://r.example/u/1?_state=a%2Bb%3D%3D&digest=sha256%3A'],
  // searchParams.append would write these anew: the plus as a space, the tilde and the empty value otherwise.
  ['https://r.example/u/1?sig=a+b~c&flag&empty=', 'https://r.example/u/1?sig=a+b~c&flag&empty=&digest=sha256%3A'],
  ['https://r.example/u/1?a=1&', 'https://r.example/u/1?a=1&digest=sha256%3A'],
])('the closing URL of %j', (location, start) => {
  expect(withDigest(new URL(location), DIGEST).href).toBe(`${start}${'ab'.repeat(32)}`);
});

it('any query survives, and the digest is in it once', () => {
  const random = randomFrom(42);
  const alphabet = "abcXYZ019-._~!$&'()*+,;=:@/?%20%2F";
  for (let round = 0; round < 5_000; round += 1) {
    const length = Math.floor(random() * 40);
    const query = Array.from({ length }, () => alphabet[Math.floor(random() * alphabet.length)]).join('');
    const location = resolveLocation(`/v2/a/blobs/uploads/1?${query}`, REQUEST)!;
    const closing = withDigest(location, DIGEST);
    expect(closing.searchParams.getAll('digest').at(-1)).toBe(DIGEST);
    const kept = location.search.replace(/^\?/, '').replace(/&$/, '');
    expect(closing.search.startsWith(`?${kept}`)).toBe(true);
    expect(closing.pathname).toBe('/v2/a/blobs/uploads/1');
  }
});

it('any Location is a URL without a fragment or nothing', () => {
  const random = randomFrom(4711);
  const alphabet = 'htps:/?#@[]%\\ \t.0a\u0000\u00e9-_&=';
  for (let round = 0; round < 20_000; round += 1) {
    const length = Math.floor(random() * 30);
    const header = Array.from({ length }, () => alphabet[Math.floor(random() * alphabet.length)]).join('');
    const location = resolveLocation(header, REQUEST);
    if (location !== undefined && location.hash !== '') expect.fail(header);
  }
});
