import { expect, it } from 'vitest';
import { parseRange, storedBytes } from '../../../src/registry/upload/classify.ts';
import { randomFrom } from '../../support/fault-proxy/cuts.ts';

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
