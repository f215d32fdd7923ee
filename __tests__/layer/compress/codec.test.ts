import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { codecFor } from '../../../src/layer/compress/codec.ts';
import { grownBytes } from '../../../src/layer/compress/compression.ts';
import { shrinks } from '../../../src/layer/compress/sample.ts';
import { bytesOf, MIB } from '../layers.ts';

const BLOCK = 2 * MIB;

const packed = (compression: 'gzip' | 'zstd', level: number, block: Buffer): Buffer => {
  const into = Buffer.alloc(grownBytes(Math.max(block.length, 1)));
  return into.subarray(0, codecFor(compression, level)(block, into));
};

for (const bytes of [0, 1, 65535, 65536, BLOCK - 1, BLOCK]) {
  test(`${bytes} bytes that do not shrink fit, and come back`, () => {
    const block = bytesOf('random', bytes);
    const gzip = packed('gzip', 1, block);
    expect(gunzipSync(gzip).equals(block)).toBe(true);
    expect(zstdDecompressSync(packed('zstd', 3, block)).equals(block)).toBe(true);
    expect(gzip.length).toBeLessThanOrEqual(bytes + 18 + 5 * Math.max(1, Math.ceil(bytes / 65535)));
  });
}

test('every level gives one whole member or frame, higher levels smaller ones', () => {
  const block = bytesOf('mixed', BLOCK);
  for (const [compression, levels] of [
    ['gzip', [1, 4, 8]],
    ['zstd', [1, 3, 9]],
  ] as const) {
    const sizes = levels.map((level) => packed(compression, level, block).length);
    expect(sizes).toEqual(sizes.toSorted((a, b) => b - a));
    expect(sizes[0]).toBeLessThan(BLOCK / 2);
  }
});

test('the gzip header tells nothing of the machine or the hour', () => {
  const member = packed('gzip', 1, bytesOf('text', 1000));
  expect(member.subarray(0, 10).toString('hex')).toBe('1f8b08000000000000ff');
  expect(member.readUInt32LE(member.length - 4)).toBe(1000);
});

test('a block is stored only when it shrinks nowhere', () => {
  const [random, text] = [bytesOf('random', BLOCK), bytesOf('text', BLOCK)];
  expect(shrinks(random)).toBe(false);
  expect(shrinks(text)).toBe(true);
  expect(shrinks(random.subarray(0, 3000))).toBe(false);
  // A quarter of a block that shrinks is worth it, wherever it lies.
  for (const at of [0, BLOCK / 4, BLOCK / 2, (3 * BLOCK) / 4]) {
    const mixed = Buffer.from(random);
    text.copy(mixed, at, 0, BLOCK / 4);
    expect(shrinks(mixed)).toBe(true);
    expect(packed('gzip', 1, mixed).length).toBeLessThan(BLOCK * 0.9);
  }
});
