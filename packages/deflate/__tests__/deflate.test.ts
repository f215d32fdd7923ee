import { inflateRawSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { bytesOf, MIB } from '../../../__tests__/blob/layers.ts';
import type { Content } from '../../../__tests__/support/content.ts';
import { grownBytes } from '../../../src/blob/compress/compression.ts';
import { createDeflate } from '../deflate.ts';

const deflate = createDeflate();

/** Compresses, and has it undone by zlib, which takes nothing that RFC 1951 does not allow. */
const packed = (block: Uint8Array, by = deflate): Buffer => {
  const into = Buffer.alloc(grownBytes(block.length), 0xaa);
  const stream = into.subarray(0, by(block, into));
  expect(inflateRawSync(stream).equals(block)).toBe(true);
  expect(into.subarray(stream.length).every((byte) => byte === 0xaa)).toBe(true);
  return stream;
};

/** A generator of numbers below `bound` that gives the same ones every time (xorshift, 32 bits). */
const numbers = (seed: number) => {
  let state = seed * 2654435761 || 1;
  return (bound: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % bound;
  };
};

const CONTENTS: readonly Content[] = ['text', 'mixed', 'random'];

it('every length from 0 to 600 bytes comes back', () => {
  for (const content of CONTENTS) {
    const bytes = bytesOf(content, 600);
    for (let length = 0; length <= bytes.length; length++) packed(bytes.subarray(0, length));
  }
});

it('blocks of the full size and just below come back, and shrink', () => {
  for (const length of [MIB, MIB - 1, MIB - 15, MIB - 17, 65535, 65536, 65537]) {
    packed(bytesOf('mixed', length));
    expect(packed(bytesOf('text', length)).length).toBeLessThan(length / 2);
    expect(packed(Buffer.alloc(length)).length).toBeLessThan(length / 300);
  }
});

it('matches of every length are found, and those as far away as the format allows, but none farther', () => {
  const random = bytesOf('random', 2 * 65536);
  for (let length = 4; length <= 600; length++) {
    packed(Buffer.concat([random.subarray(0, 700), random.subarray(20, 20 + length), random.subarray(3000, 3020)]));
  }
  const sizes = [32767, 32768, 32769, 65535, 65536, 65537].map((distance) => {
    const block = Buffer.concat([random.subarray(0, distance), random.subarray(0, 20_000)]);
    return packed(block).length - distance;
  });
  const [within, atMost, beyond, ...farther] = sizes;
  expect(Math.max(within!, atMost!)).toBeLessThan(3000);
  // From the bytes that are repeated only what begins later than the first is in reach; of those nothing is.
  for (const size of [beyond!, ...farther]) expect(size).toBeGreaterThan(19_000);
});

it('counts that ask for codes longer than the format has get shorter ones', () => {
  // Fibonacci's numbers make the deepest tree: 24 symbols ask for 23 bits. Shuffled, so that there is nothing to match.
  const next = numbers(3);
  const bytes: number[] = [];
  for (let symbol = 0, [a, b] = [1, 1]; symbol < 24; symbol++, [a, b] = [b!, a! + b!]) {
    for (let i = 0; i < a! && bytes.length < MIB; i++) bytes.push(symbol * 7);
  }
  for (let i = bytes.length - 1; i > 0; i--) {
    const other = next(i + 1);
    [bytes[i], bytes[other]] = [bytes[other]!, bytes[i]!];
  }
  expect(packed(Uint8Array.from(bytes)).length).toBeLessThan(bytes.length / 2);
});

it('data of one kind after the other gets codes for each', () => {
  const [text, random] = [bytesOf('text', MIB / 8), bytesOf('random', MIB / 8)];
  const digits = Buffer.from(random.map((byte) => 48 + (byte % 10)));
  const parts = [text, random, digits, text, random];
  const together = packed(Buffer.concat(parts)).length;
  const apart = parts.reduce((sum, part) => sum + packed(part).length, 0);
  expect(together).toBeLessThan(apart * 1.01);
});

it('thousands of blocks of all kinds come back', () => {
  for (let seed = 1; seed <= 3000; seed++) packed(blockOf(seed));
});

/** Literals out of some alphabet, copies from before, and runs, in a mixture of its own for each seed. */
function blockOf(seed: number): Uint8Array {
  const next = numbers(seed);
  const block = new Uint8Array(next(seed % 50 === 0 ? MIB : 20_000));
  const [alphabet, copies, longest] = [1 + next(256), next(100), 4 + next(400)];
  for (let at = 0; at < block.length; ) {
    const length = Math.min(1 + next(longest), block.length - at);
    if (at > 0 && next(100) < copies) {
      const distance = 1 + next(Math.min(at, 40_000));
      for (let i = 0; i < length; i++, at++) block[at] = block[at - distance]!;
    } else for (let i = 0; i < length; i++) block[at++] = next(alphabet);
  }
  return block;
}

it('the same block gives the same bytes, whatever was compressed before, by every instance', () => {
  const block = bytesOf('mixed', 300_000);
  const first = Buffer.from(packed(block, createDeflate()));
  packed(bytesOf('random', MIB));
  packed(bytesOf('text', MIB));
  expect(Buffer.from(packed(block)).equals(first)).toBe(true);
});

it('a block that is longer than its memory is refused', () => {
  expect(() => deflate(new Uint8Array(MIB + 1), new Uint8Array(2 * MIB))).toThrow(RangeError);
});
