import { describe, expect, it } from 'vitest';
import { errorOf } from '../../../src/registry/http/error.ts';
import { askedWait } from '../../../src/registry/http/error-body.ts';

const answered = async (status: number, headers: Record<string, string>, body: string) =>
  errorOf(
    { status, headers, url: new URL('https://registry.example/v2/'), excerpt: async () => body },
    { method: 'POST', remedy: 'check the password' },
  );

const coded = (code: string, message: string): string => JSON.stringify({ errors: [{ code, message }] });

describe('an answer is a limit', () => {
  it.each([
    ['429', 429, {}, ''],
    ['429 in HTML', 429, {}, '<html><h1>slow down</h1></html>'],
    ['403 of GHCR', 403, {}, coded('DENIED', 'You have exceeded a secondary rate limit')],
    ['403 of GitHub in plain text', 403, {}, 'You have exceeded a secondary rate limit. Please wait a few minutes.'],
    ['403 by words', 403, {}, coded('DENIED', 'Rate limit exceeded')],
    ['403 by other words', 403, {}, 'Too Many Requests'],
    ['403 with Retry-After', 403, { 'retry-after': '7' }, coded('DENIED', 'requested access is denied')],
    ['403 with nothing left', 403, { 'x-ratelimit-remaining': '0' }, ''],
    ['403 with nothing left, by the draft', 403, { ratelimit: 'limit=100, remaining=0, reset=50' }, ''],
    ['403 with nothing left, by the later draft', 403, { ratelimit: '"default";r=0;t=50' }, ''],
    ['the code under another status', 400, {}, coded('TOOMANYREQUESTS', 'slow down')],
  ])('%s', async (_, status, headers, body) => {
    const error = await answered(status, headers as Record<string, string>, body);
    expect([error.kind, error.temporary]).toEqual(['limited', true]);
    expect(error.remedy).toMatch(/max-wait/);
  });

  it.each([
    ['403 about permission', 403, {}, coded('DENIED', 'requested access to the resource is denied'), 'denied'],
    ['403 with requests left', 403, { 'x-ratelimit-remaining': '4999' }, coded('DENIED', 'no'), 'denied'],
    ['403 with requests left, by the draft', 403, { ratelimit: '"default";r=10;t=50' }, '', 'denied'],
    ['403 about a quota', 403, {}, coded('DENIED', 'quota exceeded'), 'denied'],
    ['401', 401, {}, coded('UNAUTHORIZED', 'authentication required'), 'auth'],
    ['404 with nothing left', 404, { 'x-ratelimit-remaining': '0' }, '', 'status'],
  ])('not %s', async (_, status, headers, body, kind) => {
    const error = await answered(status, headers as Record<string, string>, body);
    expect([error.kind, error.temporary, error.remedy]).toEqual([kind, false, 'check the password']);
  });
});

describe('how long a registry asks to wait', () => {
  const date = 'Thu, 01 Jan 2026 00:00:00 GMT';
  it.each([
    [{ 'retry-after': '7' }, 7000],
    [{ 'retry-after': '0' }, 0],
    [{ 'retry-after': ' 3 ' }, 3000],
    [{ 'retry-after': '86400' }, 86_400_000],
    // The server's own clock counts, whatever ours says.
    [{ 'retry-after': 'Thu, 01 Jan 2026 00:00:10 GMT', date }, 10_000],
    [{ 'retry-after': 'Wed, 31 Dec 2025 00:00:00 GMT', date }, 0],
    [{ 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '1767225630', date }, 30_000],
    [{ 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '40' }, 40_000],
    [{ ratelimit: 'limit=100, remaining=0, reset=50' }, 50_000],
    [{ ratelimit: '"default";r=0;t=5' }, 5000],
    [{ ratelimit: '"default";r=1;t=5' }, undefined],
    [{ 'x-ratelimit-remaining': '3', 'x-ratelimit-reset': '40' }, undefined],
    [{ 'retry-after': '' }, undefined],
    [{ 'retry-after': 'soon' }, undefined],
    [{}, undefined],
  ])('%j: %s ms', (headers, ms) => expect(askedWait(headers as Record<string, string>)).toBe(ms));
});
