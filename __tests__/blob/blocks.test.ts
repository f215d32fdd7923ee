import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { BLOCK_SIZE, type FillStream, fileStream, openFileStream } from '../../src/blob/blocks.ts';

const folder = mkdtempSync(join(tmpdir(), 'chunked-push-blocks-'));
const path = join(folder, 'file');
const bytes = Buffer.from(Array.from({ length: 3 * BLOCK_SIZE + 17 }, (_, at) => (at * 7) % 251));
let fd: number;

beforeAll(() => {
  writeFileSync(path, bytes);
  fd = openSync(path, 'r');
});

afterAll(() => {
  closeSync(fd);
  rmSync(folder, { recursive: true });
});

async function filled(stream: FillStream, blockBytes: number): Promise<Buffer> {
  const blocks: Buffer[] = [];
  for (let count = blockBytes; count === blockBytes; ) {
    const block = Buffer.alloc(blockBytes);
    count = await stream.fill(block);
    blocks.push(block.subarray(0, count));
  }
  return Buffer.concat(blocks);
}

const RANGES = [
  [0, bytes.length],
  [5, 5],
  [9, 3],
  [1, BLOCK_SIZE + 1],
  [BLOCK_SIZE - 1, 3 * BLOCK_SIZE],
] as const;

it.each(RANGES)(
  'gives the bytes from %i to %i: of a path, of an open file, and into blocks of any size',
  async (start, end) => {
    const wanted = bytes.subarray(start, Math.max(start, end));
    expect((await buffer(fileStream(path, start, end))).equals(wanted)).toBe(true);
    expect((await buffer(openFileStream(fd, start, end))).equals(wanted)).toBe(true);
    for (const size of [1000, BLOCK_SIZE, 4 * BLOCK_SIZE]) {
      expect((await filled(openFileStream(fd, start, end), size)).equals(wanted)).toBe(true);
    }
  },
);

it('says where a file ends that should be longer', async () => {
  const end = bytes.length + 1;
  const words = `it ends at ${bytes.length} bytes`;
  await expect(buffer(fileStream(path, 0, end))).rejects.toThrow(words);
  await expect(buffer(openFileStream(fd, 7, end))).rejects.toThrow(words);
  await expect(filled(openFileStream(fd, 7, end), 1000)).rejects.toThrow(words);
  await expect(buffer(fileStream(join(folder, 'none'), 0, 1))).rejects.toMatchObject({ code: 'ENOENT' });
});

it('reads into the same memory again once a chunk was given back', async () => {
  const memory = new Set<ArrayBufferLike>();
  const read: Buffer[] = [];
  const stream = fileStream(path, 0, bytes.length);
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    if (chunk.length === BLOCK_SIZE) memory.add(chunk.buffer);
    read.push(Buffer.from(chunk));
    stream.recycle(chunk);
  }
  expect(Buffer.concat(read).equals(bytes)).toBe(true);
  expect(memory.size).toBeLessThan(3);
});
