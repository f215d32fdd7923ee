import { describe, expect, it } from 'vitest';
import { oneLine } from '../../../src/common/printable.ts';
import { firstLine, readableReason, registryCodes } from '../../../src/registry/http/error-body.ts';
import { seeded } from '../helpers/random.ts';

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

describe('firstWords', () => {
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
    const random = seeded(9);
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
