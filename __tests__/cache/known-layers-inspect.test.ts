import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, it, onTestFinished } from 'vitest';
import { inspectBlob, inspectLayer } from '../../src/cache/known-layers.ts';
import { digestOf } from '../../src/oci/types.ts';

async function file(bytes: Buffer): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'inspect-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  await writeFile(join(dir, 'blob'), bytes);
  return join(dir, 'blob');
}

/** Half of it does not shrink, so that the compressed layers are longer than what is read at once. */
const plain = Buffer.concat([Buffer.alloc(3_000_000, 'some text that shrinks '), randomBytes(6_000_000)]);

it.each(['gzip', 'zstd'] as const)('%s: the diffID is that of all members or frames together', async (compression) => {
  const pack = compression === 'gzip' ? gzipSync : zstdCompressSync;
  const blob = Buffer.concat([pack(plain.subarray(0, 5_000_000)), pack(plain.subarray(5_000_000))]);
  const path = await file(blob);
  const facts = { digest: digestOf(blob), size: blob.length };
  expect(await inspectLayer(path, compression)).toEqual({ ...facts, diffId: digestOf(plain) });
  expect(await inspectBlob(path)).toEqual(facts);
});

it.each(['gzip', 'zstd'] as const)(
  '%s: cut short, damaged, followed by other bytes, or not compressed: refused',
  async (compression) => {
    const blob = (compression === 'gzip' ? gzipSync : zstdCompressSync)(plain);
    const wrong = [
      blob.subarray(0, -5),
      Buffer.concat([blob, Buffer.alloc(10)]),
      Buffer.concat([blob, Buffer.from('trailing')]),
      plain,
    ];
    for (const bytes of wrong) await expect(inspectLayer(await file(bytes), compression)).rejects.toThrow();
  },
);
