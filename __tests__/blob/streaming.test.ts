import { existsSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setImmediate as turn } from 'node:timers/promises';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { expect, it, onTestFinished, vi } from 'vitest';
import { Spool } from '../../src/blob/spool.ts';
import { compressLayer, spoolBlob } from '../../src/blob/streaming.ts';
import { LayerError } from '../../src/common/error.ts';
import { type Digest, digestOf } from '../../src/oci/types.ts';
import { bytesOf, contentsOf, MIB, never, newFolder, newPool, newSpool, streamOf, stuckAfter } from './layers.ts';

const unpacked = { gzip: gunzipSync, zstd: zstdDecompressSync };
const wrong: Digest = `sha256:${'0'.repeat(64)}`;

for (const compression of ['gzip', 'zstd'] as const) {
  for (const bytes of [0, 1, 2 * MIB, 4 * MIB, 4 * MIB + 1, 11 * MIB]) {
    it(`${bytes} bytes come back out of ${compression}`, async () => {
      const plain = bytesOf('mixed', bytes);
      const made = compressLayer(streamOf(plain), {
        pool: newPool({ compression }),
        spool: await newSpool(),
        diffId: digestOf(plain),
        signal: never,
      });
      const packed = await contentsOf(made);
      expect(await made.diffId).toBe(digestOf(plain));
      expect(made.identity).toEqual({ digest: digestOf(packed), size: packed.length });
      expect(unpacked[compression](packed).equals(plain)).toBe(true);
    });
  }
}

it('an input that fills blocks by itself gives the same layer, and its error to those who wait', async () => {
  const plain = bytesOf('mixed', 3 * MIB + 5);
  const [pool, spool] = [newPool(), await newSpool()];
  let at = 0;
  const fill = async (block: Uint8Array) => {
    const part = plain.subarray(at, at + block.length);
    block.set(part);
    at += part.length;
    return part.length;
  };
  const filling = Object.assign(new Readable({ read: () => undefined }), { fill });
  const [one, other] = [filling, streamOf(plain)].map((input) => compressLayer(input, { pool, spool, signal: never }));
  expect(await one!.completed()).toEqual(await other!.completed());
  expect(await one!.diffId).toBe(digestOf(plain));
  const broken = Object.assign(new Readable({ read: () => undefined }), {
    fill: () => Promise.reject(new Error('gone')),
  });
  const layer = compressLayer(broken, { pool, spool, signal: never });
  await expect(layer.completed()).rejects.toMatchObject({
    what: 'reading the layer',
    message: expect.stringContaining('gone'),
  });
});

it('the same layer gives the same bytes, however many threads and layers there are', async () => {
  const plain = bytesOf('mixed', 12 * MIB);
  const spool = await newSpool();
  const [one, three] = [newPool({ threads: 1 }), newPool({ threads: 3 })];
  const made = [one, three, three].map((pool) => compressLayer(streamOf(plain), { pool, spool, signal: never }));
  const digests = await Promise.all(made.map(async (blob) => (await blob.completed()).digest));
  expect(new Set(digests).size).toBe(1);
});

it('bytes can be read before the layer is complete', async () => {
  const input = stuckAfter(bytesOf('random', 6 * MIB));
  const made = compressLayer(input, { pool: newPool(), spool: await newSpool(), signal: never });
  const { available, ended } = await made.reach(4 * MIB);
  expect(available).toBeGreaterThanOrEqual(4 * MIB);
  expect(ended).toBe(false);
  expect(made.identity).toBeUndefined();
  const early = await buffer(made.read(MIB, 4 * MIB));
  input.push(null);
  expect((await contentsOf(made)).subarray(MIB, 4 * MIB).equals(early)).toBe(true);
  expect(await made.reach(Number.MAX_SAFE_INTEGER)).toEqual({ available: made.identity!.size, ended: true });
});

it('a giant layer does not hold up a small one', async () => {
  const [pool, spool] = [newPool({ threads: 1 }), await newSpool()];
  const giant = compressLayer(streamOf(bytesOf('text', 64 * MIB)), { pool, spool, signal: never });
  await giant.reach(1);
  const small = compressLayer(streamOf(bytesOf('text', 3 * MIB)), { pool, spool, signal: never });
  await small.completed();
  expect(giant.identity).toBeUndefined();
  await giant.completed();
});

it('a blob passes through byte for byte', async () => {
  const bytes = bytesOf('random', 5 * MIB + 7);
  const progress: number[] = [];
  const blob = spoolBlob(streamOf(bytes), {
    spool: await newSpool(),
    digest: digestOf(bytes),
    size: bytes.length,
    signal: never,
    onProgress: (_, written) => progress.push(written),
  });
  expect((await contentsOf(blob)).equals(bytes)).toBe(true);
  expect(progress.at(-1)).toBe(bytes.length);
  const empty = spoolBlob(Readable.from([]), { spool: await newSpool(), size: 0, signal: never });
  expect((await contentsOf(empty)).length).toBe(0);
});

it('bytes that are not those of the image are refused, with both digests', async () => {
  const [pool, spool] = [newPool(), await newSpool()];
  const plain = bytesOf('text', MIB);
  const layer = compressLayer(streamOf(plain), { pool, spool, diffId: wrong, signal: never });
  await expect(layer.completed()).rejects.toThrow(`diffID ${digestOf(plain)}, but the image names ${wrong}`);
  await expect(layer.diffId).rejects.toBeInstanceOf(LayerError);
  await expect(layer.reach(10 * MIB)).rejects.toMatchObject({ remedy: expect.stringContaining('save it again') });
  const blob = spoolBlob(streamOf(plain), { spool, digest: wrong, signal: never });
  await expect(blob.completed()).rejects.toThrow(`digest ${digestOf(plain)}`);
  const short = spoolBlob(streamOf(plain), { spool, size: MIB + 1, signal: never });
  await expect(short.completed()).rejects.toThrow(`size ${MIB}, but the image names ${MIB + 1}`);
});

it('an input that breaks rejects everybody who waits, and nobody has to wait', async () => {
  const [pool, spool] = [newPool(), await newSpool()];
  const broken = () => {
    const input = stuckAfter(bytesOf('text', 100));
    setTimeout(() => input.destroy(new Error('docker save: exit code 1')), 20);
    return input;
  };
  const layer = compressLayer(broken(), { pool, spool, signal: never });
  const waiting = Promise.allSettled([layer.reach(MIB), layer.completed(), layer.diffId]);
  for (const result of await waiting) {
    expect(result).toMatchObject({
      reason: { what: 'reading the layer', message: expect.stringContaining('exit code 1') },
    });
  }
  // Not awaited by anybody: an unhandled rejection would fail this run.
  const inputs = [broken(), broken()] as const;
  const closed = Promise.all(inputs.map((input) => new Promise((resolve) => input.once('close', resolve))));
  spoolBlob(inputs[0], { spool, signal: never });
  compressLayer(inputs[1], { pool, spool, signal: never });
  await closed;
  for (let n = 0; n < 3; n++) await turn();
});

it('cancelling ends a layer whose input never comes, and the input', async () => {
  const cancel = new AbortController();
  const input = stuckAfter(bytesOf('text', 100));
  const layer = compressLayer(input, { pool: newPool(), spool: await newSpool(), signal: cancel.signal });
  const waiting = expect(layer.reach(MIB)).rejects.toThrow('cancelled');
  cancel.abort();
  await waiting;
  await expect(layer.completed()).rejects.toBeInstanceOf(LayerError);
  expect(input.destroyed).toBe(true);
  const late = compressLayer(streamOf(bytesOf('text', 100)), {
    pool: newPool(),
    spool: await newSpool(),
    signal: cancel.signal,
  });
  await expect(late.completed()).rejects.toThrow('cancelled');
});

it('a disk that is full is said to be full', async () => {
  const folder = newFolder();
  const path = join(folder, 'full');
  symlinkSync('/dev/full', path);
  const spool = await Spool.open(folder);
  const layer = compressLayer(streamOf(bytesOf('text', 30 * MIB)), { pool: newPool(), spool, path, signal: never });
  await expect(layer.completed()).rejects.toMatchObject({
    message: expect.stringMatching(/the disk is full.*ENOSPC/),
    remedy: expect.stringContaining('free some disk space'),
  });
  await layer.release();
});

it('a thread that dies is an error, and other layers hear of it', async () => {
  const [pool, spool] = [newPool({ threads: 1 }), await newSpool()];
  const input = stuckAfter(bytesOf('text', 3 * MIB));
  const layer = compressLayer(input, { pool, spool, signal: never });
  await layer.reach(1);
  // A buffer that is too small for what the thread makes next.
  await pool.compress(new Uint8Array(1));
  input.push(bytesOf('text', 6 * MIB));
  await expect(layer.completed()).rejects.toThrow('a compressor thread failed');
  const next = compressLayer(streamOf(bytesOf('text', MIB)), { pool, spool, signal: never });
  await expect(next.completed()).rejects.toThrow('a compressor thread failed');
});

it('release ends a blob that is not needed any more and removes its file', async () => {
  const spool = await newSpool();
  const input = stuckAfter(bytesOf('random', 6 * MIB));
  const layer = compressLayer(input, { pool: newPool(), spool, signal: never });
  await layer.reach(2 * MIB);
  expect(existsSync(layer.file!)).toBe(true);
  expect(spool.bytesOnDisk).toBeGreaterThanOrEqual(2 * MIB);
  await layer.release();
  await layer.release();
  await expect(layer.completed()).rejects.toThrow('not needed any more');
  expect(input.destroyed).toBe(true);
  expect(readdirSync(spool.dir)).toEqual([]);
  expect(spool.bytesOnDisk).toBe(0);
  expect(spool.peakBytes).toBeGreaterThanOrEqual(2 * MIB);
});

it('the cache keeps a complete file in the place that it asked for, and no incomplete one', async () => {
  const folder = newFolder();
  const spool = await Spool.open(join(folder, 'spool'));
  const path = join(folder, 'cache', 'layer.gz');
  const pool = newPool();
  const kept = compressLayer(streamOf(bytesOf('text', MIB)), { pool, spool, path, signal: never });
  const packed = await contentsOf(kept);
  await kept.release(true);
  const broken = compressLayer(stuckAfter(bytesOf('random', 4 * MIB)), {
    pool,
    spool,
    path: `${path}-2`,
    signal: never,
  });
  await broken.reach(1);
  await broken.release(true);
  await spool.close();
  expect(kept.file).toBe(path);
  expect(readdirSync(join(folder, 'cache'))).toEqual(['layer.gz']);
  expect((await contentsOf(kept)).equals(packed)).toBe(true);
  expect(existsSync(spool.dir)).toBe(false);
});

it('times add up to the time that the layer took', async () => {
  const [pool, spool, input] = [newPool(), await newSpool(), stuckAfter(bytesOf('text', 3 * MIB))];
  vi.useFakeTimers({ toFake: ['hrtime'] });
  onTestFinished(() => void vi.useRealTimers());
  let passed = 0;
  const pass = (ms: number) => {
    passed += ms;
    vi.advanceTimersByTime(ms);
  };
  const layer = compressLayer(input, { pool, spool, signal: never, onProgress: () => pass(5) });
  // The first block is made: the second one waits for its rest.
  await layer.reach(1);
  for (let n = 0; n < 10; n++) await turn();
  pass(1000);
  input.push(null);
  await layer.completed();
  const { waitingForInputMs, compressingMs, heldBackMs } = layer.times;
  expect(waitingForInputMs).toBeGreaterThanOrEqual(1000);
  expect(compressingMs).toBeGreaterThanOrEqual(5);
  expect(heldBackMs).toBeLessThan(waitingForInputMs);
  expect(waitingForInputMs + compressingMs + heldBackMs).toBeCloseTo(passed);
});
