import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { StreamingBlob } from '../../src/blob/blob.ts';
import { LayerError } from '../../src/blob/compress/error.ts';
import { Spool } from '../../src/blob/spool.ts';
import { compressLayer, spoolBlob } from '../../src/blob/streaming.ts';
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
    await expect.poll(() => spool.bytesOnDisk).toBeGreaterThan(held);
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
  expect(spool.peakBytes).toBeGreaterThan(39 * MIB);
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
