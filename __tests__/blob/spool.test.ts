import { statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { expect, it, onTestFinished } from 'vitest';
import type { StreamingBlob } from '../../src/blob/blob.ts';
import { Spool } from '../../src/blob/spool.ts';
import { SpoolShortError } from '../../src/blob/spool-file.ts';
import { compressLayer, spoolBlob } from '../../src/blob/streaming.ts';
import { LayerError } from '../../src/common/error.ts';
import { digestOf } from '../../src/oci/types.ts';
import { bytesOf, MIB, never, newFolder, newPool, newSpool, streamOf } from './layers.ts';

/** Blocks that may be on their way when a maker is held back: those in the threads, and the ones being gathered. */
const IN_FLIGHT = 8 * 2 * MIB;

/** The same work, begun later and with room: when it is done, a blob that nothing holds back would be done too. */
const afterAnother = async (start: (spool: Spool) => StreamingBlob): Promise<void> => {
  await start(await newSpool()).completed();
};

for (const make of ['compressed', 'passed through'] as const) {
  const start = (bytes: number, spool: Spool) => {
    const input = streamOf(bytesOf('random', bytes));
    return make === 'compressed'
      ? compressLayer(input, { pool: newPool(), spool, signal: never })
      : spoolBlob(input, { spool, signal: never });
  };

  it(`a blob that is ${make} is held back at the bound, and goes on as the registry confirms`, async () => {
    const spool = await newSpool(4 * MIB);
    const blob = start(64 * MIB, spool);
    await blob.reach(4 * MIB);
    await afterAnother((other) => start(64 * MIB, other));
    expect(blob.identity).toBeUndefined();
    expect(spool.bytesOnDisk).toBeLessThan(8 * MIB + IN_FLIGHT);
    const held = spool.bytesOnDisk;
    blob.confirmed(held);
    await expect.poll(async () => (await blob.reach(0)).available).toBeGreaterThan(held);
    expect(blob.identity).toBeUndefined();
    expect(blob.times.heldBackMs).toBeGreaterThan(0);
    blob.confirmed(64 * MIB);
    await blob.completed();
  });

  it(`an upload that wants more than the bound gets it: chunks larger than the spool (${make})`, async () => {
    const spool = await newSpool(MIB);
    const blob = start(48 * MIB, spool);
    for (let sent = 0; ; ) {
      const { available, ended } = await blob.reach(sent + 20 * MIB);
      sent = Math.min(available, sent + 20 * MIB);
      blob.confirmed(sent);
      if (ended && sent === available) break;
    }
    expect((await blob.completed()).size).toBeGreaterThan(48 * MIB - 1);
  });
}

it('a blob that is removed makes room for another that nobody uploads yet', async () => {
  const spool = await newSpool(8 * MIB);
  const first = spoolBlob(streamOf(bytesOf('random', 7 * MIB)), { spool, signal: never });
  await first.completed();
  const large = (spool: Spool) => spoolBlob(streamOf(bytesOf('random', 40 * MIB)), { spool, signal: never });
  const second = large(spool);
  await afterAnother(large);
  expect(second.identity).toBeUndefined();
  const before = spool.bytesOnDisk;
  second.confirmed(8 * MIB);
  await first.release();
  expect(spool.bytesOnDisk).toBeLessThan(before);
  await second.reach(Number.MAX_SAFE_INTEGER);
  // Less what was confirmed, which is removed.
  expect(spool.peakBytes).toBeGreaterThan((40 - 8 - 1) * MIB);
});

it('a blob that is held back does not keep the threads from others', async () => {
  const [pool, spool] = [newPool({ threads: 1 }), await newSpool(2 * MIB)];
  const held = compressLayer(streamOf(bytesOf('random', 60 * MIB)), { pool, spool, signal: never });
  await held.reach(2 * MIB);
  await expect.poll(() => spool.bytesOnDisk).toBeGreaterThan(2 * MIB);
  const other = compressLayer(streamOf(bytesOf('text', 20 * MIB)), { pool, spool, signal: never });
  await other.reach(Number.MAX_SAFE_INTEGER);
  expect(other.identity).toBeDefined();
  expect(held.identity).toBeUndefined();
});

it('disposing of the spool ends those who are held back', async () => {
  const spool = await newSpool(MIB);
  const large = (spool: Spool) => spoolBlob(streamOf(bytesOf('random', 30 * MIB)), { spool, signal: never });
  const blob = large(spool);
  await blob.reach(MIB);
  await afterAnother(large);
  expect(blob.identity).toBeUndefined();
  await spool.close();
  await expect(blob.completed()).rejects.toBeInstanceOf(LayerError);
  expect(spool.bytesOnDisk).toBe(0);
});

it('a folder that cannot be made is one error with a remedy', async () => {
  const path = join(newFolder(), 'file');
  writeFileSync(path, '');
  await expect(Spool.open(join(path, 'spool'))).rejects.toMatchObject({
    message: expect.stringContaining('making the spool folder'),
    remedy: expect.stringContaining('RUNNER_TEMP'),
  });
});

/** Uploads a blob as a registry takes it: chunk by chunk, each confirmed. Returns the bytes as they were sent. */
async function upload(blob: StreamingBlob, chunk: number, onChunk: (sent: number) => void = () => {}): Promise<Buffer> {
  const sent: Buffer[] = [];
  for (let at = 0; ; ) {
    const { available, ended } = await blob.reach(at + chunk + 1);
    const end = Math.min(available, at + chunk);
    sent.push(await buffer(blob.read(at, end)));
    at = end;
    blob.confirmed(at);
    onChunk(at);
    if (ended && at === available) return Buffer.concat(sent);
  }
}

for (const make of ['compressed', 'passed through'] as const) {
  const start = (bytes: Buffer, spool: Spool, path?: string) =>
    make === 'compressed'
      ? compressLayer(streamOf(bytes), { pool: newPool(), spool, signal: never, path })
      : spoolBlob(streamOf(bytes), { spool, signal: never, path });

  it(`what is confirmed makes room also inside a blob that is ${make}: 96 MiB through a spool of 16`, async () => {
    const plain = bytesOf('random', 96 * MIB);
    const spool = await newSpool(8 * MIB);
    const blob = start(plain, spool, join(newFolder(), 'layer'));
    const sent = await upload(blob, blob.maxChunk!);
    expect(await blob.completed()).toEqual({ digest: digestOf(sent), size: sent.length });
    if (make === 'passed through') expect(sent.equals(plain)).toBe(true);
    expect(spool.peakBytes).toBeLessThan(16 * MIB + IN_FLIGHT / 2);
    // The cache gets none of it, and nothing stays behind.
    expect(blob.file).toBeUndefined();
    await blob.release(true);
    expect(spool.bytesOnDisk).toBe(0);
  });
}

it('several uploads at once fit into what half of a disk leaves', async () => {
  const [pool, bound] = [newPool(), 32 * MIB];
  const spool = await newSpool(bound);
  const blobs = Array.from({ length: 5 }, (_, at) =>
    compressLayer(streamOf(bytesOf('random', 40 * MIB, `layer ${at}`)), { pool, spool, signal: never }),
  );
  await Promise.all(blobs.map((blob) => upload(blob, blob.maxChunk!).then(() => blob.release())));
  expect(spool.peakBytes).toBeLessThan(2 * bound);
});

it('bytes that are not confirmed are read again and again while the disk is short', async () => {
  const bytes = bytesOf('random', 40 * MIB);
  const spool = await newSpool(8 * MIB);
  const blob = spoolBlob(streamOf(bytes), { spool, signal: never });
  await upload(blob, MIB, () => {});
  const other = spoolBlob(streamOf(bytes), { spool: await newSpool(8 * MIB), signal: never });
  for (let at = 0; at < 39 * MIB; at += 3 * MIB) {
    await other.reach(at + 3 * MIB);
    for (let times = 0; times < 2; times++) {
      const read = await buffer(other.read(at, at + 3 * MIB));
      expect(read.equals(bytes.subarray(at, at + 3 * MIB))).toBe(true);
    }
    other.confirmed(at + 3 * MIB);
  }
});

it('a registry that loses its session has all bytes again where the disk is large, else the blob is to be made again', async () => {
  const bytes = bytesOf('random', 24 * MIB);
  const large = spoolBlob(streamOf(bytes), { spool: await newSpool(), signal: never });
  await upload(large, 2 * MIB);
  large.confirmed(0);
  expect((await buffer(large.read(0, bytes.length))).equals(bytes)).toBe(true);
  expect(large.file).toBeDefined();

  // While it is made, and when it is complete.
  for (const until of [12 * MIB, 24 * MIB]) {
    const small = spoolBlob(streamOf(bytes), { spool: await newSpool(4 * MIB), signal: never });
    for (let at = MIB; at <= until; at += MIB) {
      await small.reach(at);
      small.confirmed(at);
    }
    if (until === bytes.length) {
      await small.completed();
      small.confirmed(0);
    } else await expect(buffer(small.read(0, MIB))).rejects.toThrow('not on disk any more');
    await expect(small.completed()).rejects.toBeInstanceOf(SpoolShortError);
    await expect(small.reach(1)).rejects.toMatchObject({ remedy: expect.stringContaining('RUNNER_TEMP') });
    expect(small.identity).toBeUndefined();
    await small.release();
  }
});

it('files and folders are readable by their owner alone', async () => {
  const umask = process.umask(0);
  onTestFinished(() => void process.umask(umask));
  const dir = join(newFolder(), 'work', 'spool');
  const spool = await Spool.open(dir);
  const path = join(dirname(dir), 'cache', 'layer');
  const blob = spoolBlob(streamOf(bytesOf('text', MIB)), { spool, signal: never, path });
  await blob.completed();
  const modes = [dirname(dir), dir, dirname(path), path].map((one) => (statSync(one).mode & 0o777).toString(8));
  expect(modes).toEqual(['700', '700', '700', '600']);
  await spool.close();
});
