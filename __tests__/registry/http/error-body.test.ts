import { describe, expect, it } from 'vitest';
import { oneLine } from '../../../src/common/printable.ts';
import { errorOf } from '../../../src/registry/http/error.ts';
import { askedWait, firstLine, readableReason, registryCodes } from '../../../src/registry/http/error-body.ts';
import { randomFrom } from '../../support/random.ts';

describe('registryCodes', () => {
  it('reads the error document of the specification', () => {
    const body = '{"errors":[{"code":"DENIED","message":"no\\nway","detail":{"a":1}},{"code":"X"},null,7]}';
    expect(registryCodes(body)).toEqual([
      { code: 'DENIED', message: 'no way', detail: { a: 1 } },
      { code: 'X', message: '' },
    ]);
  });

  it('reads what others send instead', () => {
    expect(registryCodes('{"error":"invalid_grant","error_description":"expired"}')).toEqual([
      { code: 'invalid_grant', message: 'expired' },
    ]);
    expect(registryCodes('{"details":"incorrect username or password"}')).toEqual([
      { code: '', message: 'incorrect username or password' },
    ]);
    expect(registryCodes('{"errors":["broken"]}')).toEqual([{ code: '', message: 'broken' }]);
  });

  it.each(['', '[]', '{', 'null', '<html>', '{"errors":{}}', '{"errors":[{"code":{}}]}', '{}'])(
    'finds none in %s',
    (body) => expect(registryCodes(body)).toEqual([]),
  );
});

describe('firstLine', () => {
  it.each([
    [
      '<html>\n<head><title>413 Request Entity Too Large</title></head><body><h1>x</h1></body>',
      '413 Request Entity Too Large',
    ],
    ['<html><head><title></title></head><body><h1>Bad\n gateway &amp; more</h1>', 'Bad gateway & more'],
    [
      '<html><title> </title><style>p{}</style><script>var a = "<h1>no</h1>";</script><p>Something</p><p>else</p>',
      'Something',
    ],
    ['<!DOCTYPE html><body>only <b>text', 'only'],
    ['plain text\nsecond line', 'plain text'],
    ['', ''],
    ['<html></html>', ''],
    ['<script>never closed', ''],
  ])('of %s', (body, words) => expect(firstLine(body)).toBe(words));
});

describe('readableReason', () => {
  it('joins the status and the words without saying things twice', () => {
    expect(readableReason(413, [], '<title>413 Request Entity Too Large</title>')).toBe('413 Request Entity Too Large');
    expect(readableReason(404, [], '404 page not found')).toBe('404 page not found');
    expect(readableReason(502, [], 'Bad Gateway')).toBe('502 Bad Gateway');
    expect(readableReason(524, [], '')).toBe('524');
    expect(readableReason(403, registryCodes('{"errors":[{"code":"DENIED","message":"no","detail":"why"}]}'), '')).toBe(
      '403 Forbidden: DENIED: no (why)',
    );
  });
});

describe('any body', () => {
  it('becomes one line of bounded length, in time (seeded)', () => {
    const random = randomFrom(9);
    const pieces = [
      '<',
      '>',
      '<title>',
      '</title>',
      '<script',
      '<!--',
      '{',
      '"errors":',
      '[',
      'a',
      ' ',
      '\n',
      '\x1b[31m',
      '&amp;',
      '\u2028',
      '<h1 ',
    ];
    const before = process.cpuUsage();
    for (let round = 0; round < 3000; round++) {
      const body = Array.from({ length: random() * 80 }, () => pieces[Math.floor(random() * pieces.length)]).join('');
      const line = readableReason(500, registryCodes(body), body);
      expect(line).not.toMatch(/[\x00-\x1f\u2028]/);
      expect(line.length).toBeLessThan(340);
    }
    for (const piece of pieces) firstLine(piece.repeat(2048 / piece.length));
    // Of this process's own time, however busy the machine is.
    expect(process.cpuUsage(before).user).toBeLessThan(5_000_000);
  });

  it('is cut with an ellipsis', () => {
    expect(oneLine('x'.repeat(400))).toHaveLength(300);
    expect(oneLine(' a \r\n b\t')).toBe('a b');
  });
});

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
