import { describe, expect, it } from 'vitest';
import { isTransientStatus, RegistryError } from '../../../src/registry/http/error.ts';
import { type Answer, judgeClose, judgePatch, parseRange, storedBytes } from '../../../src/registry/upload/classify.ts';
import { randomFrom } from '../../support/random.ts';

const PIECE = { start: 100, end: 200 };

function answerOf(status: number, headers: Record<string, string> = {}, code = '', message = ''): Answer {
  if (status < 300) return { status, headers, error: undefined };
  const error = new RegistryError({
    kind: 'status',
    method: 'PATCH',
    url: new URL('https://registry.example/v2/a/blobs/uploads/1'),
    reason: `${status} ${code}: ${message}`,
    status,
    codes: code === '' ? [] : [{ code, message }],
    headers,
    temporary: isTransientStatus(status) || code === 'TOOMANYREQUESTS',
  });
  return { status, headers, error };
}

const AT = (range: string) => ({ location: '/v2/a/blobs/uploads/1?s=2', range });

describe('PATCH', () => {
  it.each([
    ['202 with what was sent', answerOf(202, AT('0-199')), 'stored'],
    ['202 without Range', answerOf(202), 'stored'],
    ['201 with what was sent (ECR’s first chunk)', answerOf(201, AT('0-199')), 'stored'],
    ['204 (some proxies)', answerOf(204, AT('0-199')), 'stored'],
    ['201 with a Range that stands still', answerOf(201, AT('0-99')), 'stalled'],
    ['202 with a Range that stands still', answerOf(202, AT('0-99')), 'doubtful'],
    ['201 with a part', answerOf(201, AT('0-149')), 'doubtful'],
    ['202 with more than was sent', answerOf(202, AT('0-299')), 'doubtful'],
    ['416 that tells', answerOf(416, AT('0-99')), 'corrected'],
    ['404 that tells', answerOf(404, AT('0-99')), 'corrected'],
    ['a bare 416', answerOf(416, {}, 'BLOB_UPLOAD_INVALID'), 'doubtful'],
    [
      '416 of GHCR',
      answerOf(
        416,
        {},
        'REQUESTED_RANGE_NOT_SATISFIABLE',
        'the request body is too large and exceeds the maximum permissible limit of 4.00MiB',
      ),
      'too-large',
    ],
    ['413', answerOf(413), 'too-large'],
    ['404', answerOf(404), 'lost'],
    ['400 of a session', answerOf(400, {}, 'BLOB_UPLOAD_INVALID'), 'lost'],
    ['405', answerOf(405), 'no-chunks'],
    ['501', answerOf(501), 'no-chunks'],
    ['400 without a word', answerOf(400), 'no-chunks'],
    ['401', answerOf(401), 'final'],
    ['403', answerOf(403, {}, 'DENIED'), 'final'],
    ['403 that is a rate limit', answerOf(403, {}, 'TOOMANYREQUESTS'), 'doubtful'],
    ['407', answerOf(407), 'final'],
    ['400 of a name', answerOf(400, {}, 'NAME_INVALID'), 'final'],
    ['302', answerOf(302, { location: '/login' }), 'final'],
    ['429', answerOf(429, AT('0-99')), 'doubtful'],
    ['524', answerOf(524), 'doubtful'],
    ['409', answerOf(409), 'doubtful'],
  ])('%s', (_, answer, verdict) => {
    expect(judgePatch(answer, PIECE, false).is).toBe(verdict);
  });

  it('a host that has taken chunks does not stop taking them: 400 is the session’s fault', () => {
    expect(judgePatch(answerOf(400), PIECE, true).is).toBe('lost');
  });

  it.each([
    ['0-99', 100],
    ['0-149', 150],
    ['bytes=0-149', 150],
    ['unreadable', undefined],
  ])('416 with %s', (range, bytes) => {
    expect(judgePatch(answerOf(416, AT(range)), PIECE, true)).toEqual({ is: 'corrected', bytes });
  });
});

describe('PUT', () => {
  it.each([
    ['201', answerOf(201), 0, 'closed'],
    ['204', answerOf(204), 0, 'closed'],
    ['429', answerOf(429), 0, 'busy'],
    ['500', answerOf(500), 0, 'doubtful'],
    ['524', answerOf(524), 5, 'doubtful'],
    ['404', answerOf(404, {}, 'BLOB_UPLOAD_UNKNOWN'), 0, 'doubtful'],
    ['416', answerOf(416), 5, 'doubtful'],
    ['400 of a digest', answerOf(400, {}, 'DIGEST_INVALID'), 0, 'corrupt'],
    ['400 of an empty one (ECR)', answerOf(400, {}, 'BLOB_UPLOAD_INVALID'), 0, 'wants-body'],
    ['400 of an unknown session', answerOf(400, {}, 'BLOB_UPLOAD_UNKNOWN'), 0, 'doubtful'],
    ['400 of one with a body', answerOf(400, {}, 'BLOB_UPLOAD_INVALID'), 5, 'doubtful'],
    ['411', answerOf(411), 0, 'wants-body'],
    ['413 with a body', answerOf(413), 5, 'too-large'],
    ['413 without', answerOf(413), 0, 'final'],
    ['401', answerOf(401), 0, 'final'],
    ['403', answerOf(403), 5, 'final'],
    ['405', answerOf(405), 5, 'final'],
    ['307', answerOf(307), 5, 'final'],
  ])('%s', (_, answer, bytes, verdict) => {
    expect(judgeClose(answer, bytes).is).toBe(verdict);
  });
});

it('every answer has a verdict, and only 2xx are successes', () => {
  const random = randomFrom(99);
  const codes = ['', 'BLOB_UPLOAD_INVALID', 'DIGEST_INVALID', 'NAME_INVALID', 'UNSUPPORTED', 'TOOMANYREQUESTS', 'X'];
  const ranges = ['0-99', '0-0', '0--1', 'bytes=0-7', '', 'x', '0-99999'];
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  for (let round = 0; round < 20_000; round += 1) {
    const status = 200 + Math.floor(random() * 400);
    const headers = random() < 0.5 ? {} : AT(pick(ranges));
    const answer = answerOf(status, headers, pick(codes), pick(['', 'too large', 'exceeds the limit']));
    const patch = judgePatch(answer, PIECE, random() < 0.5).is;
    const close = judgeClose(answer, random() < 0.5 ? 0 : 100).is;
    if (status >= 300 && (patch === 'stored' || close === 'closed')) expect.fail(`${status}: ${patch}, ${close}`);
  }
});

describe('the Range of an answer', () => {
  it.each([
    ['0-0', { end: 0, prefixed: false }],
    ['0--1', { end: -1, prefixed: false }],
    ['0-1048575', { end: 1_048_575, prefixed: false }],
    ['bytes=0-9', { end: 9, prefixed: true }],
    ['bytes 0-9', { end: 9, prefixed: true }],
    [' 0-9 ', { end: 9, prefixed: false }],
  ])('reads %j', (header, range) => {
    expect(parseRange(header)).toEqual(range);
  });

  it.each([
    undefined,
    '',
    '0',
    '-',
    '1-5',
    '0-',
    '0--2',
    '0-1e3',
    '0-0x10',
    '0-99999999999999999',
    'bytes=',
    '0-1, 0-2',
    '0-1/2',
  ])('does not read %j', (header) => {
    expect(parseRange(header)).toBeUndefined();
  });

  it.each([
    // What was sent is stored: the end is inclusive.
    ['0-9', { confirmed: 0, sent: 10, located: true }, 10],
    // distribution and a fresh serverless-registry session: nothing, or one byte.
    ['0-0', { confirmed: 0, sent: 10, located: true }, 0],
    ['0-0', { confirmed: 1, sent: 10, located: true }, 1],
    // A chunk of one byte that was taken.
    ['0-0', { confirmed: 1, sent: 1, located: true }, 1],
    // serverless-registry: nothing.
    ['0--1', { confirmed: 0, sent: 10, located: true }, 0],
    // Quay's status counts one too many, and names no Location.
    ['bytes=0-10', { confirmed: 0, sent: 10, located: false }, 10],
    ['bytes=0-0', { confirmed: 0, sent: 10, located: false }, 0],
    // The same form from others, with a Location, means what it says.
    ['bytes=0-9', { confirmed: 0, sent: 10, located: true }, 10],
    ['gibberish', { confirmed: 0, sent: 10, located: true }, undefined],
  ])('%j after %j is %j bytes', (header, expected, bytes) => {
    expect(storedBytes(header, expected)).toBe(bytes);
  });

  it('any text is a whole number of bytes or nothing', () => {
    const random = randomFrom(20_261_121);
    const alphabet = '0123456789-=bytes \t,/e.+\u0000\u00e9';
    for (let round = 0; round < 20_000; round += 1) {
      const length = Math.floor(random() * 24);
      const header = Array.from({ length }, () => alphabet[Math.floor(random() * alphabet.length)]).join('');
      const confirmed = Math.floor(random() * 3);
      const bytes = storedBytes(header, { confirmed, sent: confirmed + 5, located: random() < 0.5 });
      if (bytes !== undefined && !(Number.isSafeInteger(bytes) && bytes >= 0))
        expect.fail(`${JSON.stringify(header)}: ${bytes}`);
    }
  });

  it('what a registry writes of any size is read back', () => {
    const random = randomFrom(7);
    for (let round = 0; round < 5_000; round += 1) {
      const size = 2 + Math.floor(random() * 2 ** 40);
      const form = [`0-${size - 1}`, `bytes=0-${size - 1}`][Math.floor(random() * 2)];
      expect(storedBytes(form, { confirmed: 0, sent: size, located: true })).toBe(size);
    }
  });
});
