import { createReadStream, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { expect, it } from 'vitest';
import { memoryBlob, remoteBlob, type SeekableBlob, seekableBlob } from '../../src/blob/ready.ts';
import { LayerError } from '../../src/common/error.ts';
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

it('a remote blob is read once: hashed while its chunks are sent, and no byte is asked for but those', async () => {
  const bytes = bytesOf('mixed', 3 * MIB + 5);
  const stored = storedFile(bytes);
  const body = remoteBlob(stored, digestOf(bytes));
  expect(await body.completed()).toEqual({ digest: digestOf(bytes), size: bytes.length });
  expect(await body.reach(MIB)).toEqual({ available: bytes.length, ended: true });
  expect(stored.opened).toBe(0);
  const chunks = [await buffer(body.read(0, 2 * MIB))];
  // Sent again, as after a break.
  chunks[0] = Buffer.concat([chunks[0]!.subarray(0, MIB), await buffer(body.read(MIB, 2 * MIB))]);
  chunks.push(await buffer(body.read(2 * MIB, bytes.length)));
  expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
  expect(stored.opened).toBe(3);
});

it('the last bytes of a remote blob with other bytes than its digest are not returned', async () => {
  const stored = storedFile(bytesOf('text', 2 * MIB));
  const body = remoteBlob(stored, wrong);
  await buffer(body.read(0, MIB));
  let returned = 0;
  const reading = (async () => {
    for await (const piece of body.read(MIB, 2 * MIB)) returned += (piece as Buffer).length;
  })();
  await expect(reading).rejects.toMatchObject({ remedy: expect.stringContaining('damaged') });
  expect(returned).toBeLessThan(MIB);
  await expect(body.completed()).rejects.toBeInstanceOf(LayerError);
  await expect(body.reach(1)).rejects.toBeInstanceOf(LayerError);
});

it('a remote blob whose first bytes an earlier process has sent is verified nevertheless', async () => {
  const bytes = bytesOf('mixed', 2 * MIB);
  expect((await buffer(remoteBlob(storedFile(bytes), digestOf(bytes)).read(MIB, 2 * MIB))).length).toBe(MIB);
  await expect(buffer(remoteBlob(storedFile(bytes), wrong).read(MIB, 2 * MIB))).rejects.toThrow(digestOf(bytes));
});

it('a request that breaks while it sends a remote blob does not count against the blob', async () => {
  const bytes = bytesOf('mixed', 2 * MIB);
  const body = remoteBlob(storedFile(bytes), digestOf(bytes));
  const sent = body.read(0, MIB);
  for await (const _ of sent) break;
  const other = body.read(0, MIB);
  other.once('data', () => other.destroy(new Error('reset by peer')));
  await expect(buffer(other)).rejects.toThrow('reset by peer');
  await expect(body.completed()).resolves.toMatchObject({ size: bytes.length });
  expect((await buffer(body.read(0, bytes.length))).equals(bytes)).toBe(true);
});

it('a remote blob that can not be read is no fault of the registry that it goes to', async () => {
  const read = (): Readable => {
    const stream = stuckAfter(Buffer.alloc(10));
    setImmediate(() => stream.destroy(new Error('gone')));
    return stream;
  };
  const stored = { size: MIB, read };
  const body = remoteBlob(stored, wrong);
  await expect(buffer(body.read(0, MIB))).rejects.toThrow('gone');
  await expect(body.completed()).rejects.toThrow('gone');
});
