import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { createDeflate } from '../../../packages/deflate/deflate.ts';
import { codecFor, grownBytes, shrinks } from '../../../src/blob/compress/compression.ts';
import { bytesOf, MIB } from '../layers.ts';

const BLOCK = MIB;

const fast = createDeflate();

const packed = async (compression: 'gzip' | 'zstd', level: number, block: Buffer): Promise<Buffer> => {
  const into = Buffer.alloc(grownBytes(Math.max(block.length, 1)));
  return into.subarray(0, codecFor(compression, level)(block, into));
};

for (const bytes of [0, 1, 65535, 65536, BLOCK - 1, BLOCK]) {
  it(`${bytes} bytes that do not shrink fit, and come back`, async () => {
    const block = bytesOf('random', bytes);
    for (const level of [1, 3, 9]) {
      const gzip = await packed('gzip', level, block);
      expect(gunzipSync(gzip).equals(block)).toBe(true);
      expect(gzip.length).toBeLessThanOrEqual(grownBytes(bytes) - 512);
    }
    expect(zstdDecompressSync(await packed('zstd', 3, block)).equals(block)).toBe(true);
  });
}

it('higher levels give smaller members and frames, where one compressor has them', async () => {
  const block = bytesOf('mixed', BLOCK);
  for (const [compression, levels] of [
    ['gzip', [2, 4, 8]],
    ['zstd', [1, 3, 9]],
  ] as const) {
    const sizes: number[] = [];
    for (const level of levels) sizes.push((await packed(compression, level, block)).length);
    expect(sizes).toEqual(sizes.toSorted((a, b) => b - a));
    expect(sizes[0]).toBeLessThan(BLOCK / 2);
  }
});

it('the gzip header tells nothing of the machine or the hour', async () => {
  const member = await packed('gzip', 1, bytesOf('text', 1000));
  expect(member.subarray(0, 10).toString('hex')).toBe('1f8b08000000000000ff');
  expect(member.readUInt32LE(member.length - 4)).toBe(1000);
});

it('a block is stored only when it shrinks nowhere', async () => {
  const [random, text] = [bytesOf('random', BLOCK), bytesOf('text', BLOCK)];
  expect(shrinks(random, fast)).toBe(false);
  expect(shrinks(text, fast)).toBe(true);
  expect(shrinks(random.subarray(0, 3000), fast)).toBe(false);
  // A quarter of a block that shrinks is worth it, wherever it lies.
  for (const at of [0, BLOCK / 4, BLOCK / 2, (3 * BLOCK) / 4]) {
    const mixed = Buffer.from(random);
    text.copy(mixed, at, 0, BLOCK / 4);
    expect(shrinks(mixed, fast)).toBe(true);
    for (const level of [1, 3, 9]) expect((await packed('gzip', level, mixed)).length).toBeLessThan(BLOCK * 0.9);
  }
});
