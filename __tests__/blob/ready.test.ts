import { createReadStream, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { expect, it } from 'vitest';
import { memoryBlob, type SeekableBlob, seekableBlob } from '../../src/blob/ready.ts';
import { LayerError } from '../../src/oci/error.ts';
import { type Digest, digestOf } from '../../src/oci/types.ts';
import { bytesOf, MIB, never, newFolder, stuckAfter } from './layers.ts';

const wrong: Digest = `sha256:${'0'.repeat(64)}`;

/** A file of a store, and how often it was opened. */
const storedFile = (bytes: Buffer): SeekableBlob & { opened: number } => {
  const path = join(newFolder(), 'blob');
  writeFileSync(path, bytes);
  const stored = {
    size: bytes.length,
    opened: 0,
    read: (start = 0, end = bytes.length) => {
      stored.opened++;
      return createReadStream(path, { start, end: end - 1 });
    },
  };
  return stored;
};

it('bytes in memory are a body', async () => {
  const bytes = Buffer.from('{"architecture":"amd64"}');
  const body = memoryBlob(bytes, digestOf(bytes));
  expect(await body.reach(1)).toEqual({ available: bytes.length, ended: true });
  expect(await body.completed()).toEqual({ digest: digestOf(bytes), size: bytes.length });
  expect(body.read(2, 14)).toEqual(bytes.subarray(2, 14));
  expect(body.read(3, 3)).toEqual(Buffer.alloc(0));
});

it('other bytes in memory than those of the digest are told before any of them is sent', async () => {
  const bytes = Buffer.from('{}');
  await expect(memoryBlob(bytes, wrong).reach(1)).rejects.toThrow(digestOf(bytes));
  await expect(memoryBlob(bytes, wrong).completed()).rejects.toThrow(digestOf(bytes));
});

it('a stored blob is there from the first moment, and read only when it is needed', async () => {
  const bytes = bytesOf('mixed', 3 * MIB + 5);
  const stored = storedFile(bytes);
  const body = seekableBlob(stored, digestOf(bytes), { signal: never });
  expect(body.identity).toEqual({ digest: digestOf(bytes), size: bytes.length });
  expect(stored.opened).toBe(0);
  expect(await body.reach(MIB)).toEqual({ available: bytes.length, ended: true });
  expect((await buffer(body.read(MIB, 2 * MIB))).equals(bytes.subarray(MIB, 2 * MIB))).toBe(true);
  expect(await body.completed()).toEqual(body.identity);
  await body.completed();
  expect(stored.opened).toBe(2);
});

it('a stored blob whose bytes are others is refused, also by whoever goes on uploading', async () => {
  const stored = storedFile(bytesOf('text', MIB));
  const body = seekableBlob(stored, wrong, { signal: never });
  await expect(body.completed()).rejects.toMatchObject({ remedy: expect.stringContaining('damaged') });
  await expect(body.reach(1)).rejects.toBeInstanceOf(LayerError);
  const short = seekableBlob({ ...stored, size: MIB + 1, read: stored.read }, wrong, { signal: never });
  await expect(short.completed()).rejects.toThrow(`has ${MIB} bytes, but its descriptor says ${MIB + 1}`);
});

it('a store that breaks or hangs rejects, and nobody has to listen', async () => {
  const breaking = { size: 10, read: () => new Readable({ read: (_size) => undefined }).destroy(new Error('EIO')) };
  await expect(seekableBlob(breaking, wrong, { signal: never }).completed()).rejects.toThrow(
    /reading the blob .*: EIO/,
  );
  await seekableBlob(breaking, wrong, { signal: never }).reach(1);
  const cancel = new AbortController();
  const stuck = stuckAfter(Buffer.alloc(5));
  const hanging = seekableBlob({ size: 10, read: () => stuck }, wrong, { signal: cancel.signal });
  const waiting = expect(hanging.completed()).rejects.toThrow('cancelled');
  await expect.poll(() => stuck.readableLength).toBe(0);
  cancel.abort();
  await waiting;
  await expect(seekableBlob(breaking, wrong, { signal: cancel.signal }).completed()).rejects.toBeInstanceOf(LayerError);
});
