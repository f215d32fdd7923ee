/** What the layer tests share: bytes to compress, a spool of their own, and what comes out. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { onTestFinished } from 'vitest';
import { CompressorPool, type PoolOptions } from '../../src/blob/compress/pool.ts';
import { Spool } from '../../src/blob/spool.ts';
import { type Content, contentOf } from '../support/content.ts';

export const MIB = 1024 * 1024;

export const never = new AbortController().signal;

export const bytesOf = (content: Content, bytes: number, seed = 'layer'): Buffer =>
  Buffer.concat([...contentOf(content, seed, bytes)]);

/** Bytes as a stream in chunks of 64 KiB, as a pipe gives them. */
export const streamOf = (bytes: Buffer): Readable =>
  Readable.from(
    (function* () {
      for (let at = 0; at < bytes.length; at += 65536) yield bytes.subarray(at, at + 65536);
    })(),
  );

/** A stream that gives these bytes and then nothing any more, without an end. */
export const stuckAfter = (bytes: Buffer): Readable => {
  const stream = new Readable({ read: () => undefined });
  stream.push(bytes);
  return stream;
};

export const newFolder = (): string => {
  const folder = mkdtempSync(join(tmpdir(), 'chunked-push-layer-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
};

export const newSpool = async (bound?: number): Promise<Spool> => {
  const spool = await Spool.open(join(newFolder(), 'spool'), { bound });
  onTestFinished(() => spool.close());
  return spool;
};

export const newPool = (options: Partial<PoolOptions> = {}): CompressorPool => {
  const pool = new CompressorPool({ compression: 'gzip', threads: 2, ...options });
  onTestFinished(() => pool.close());
  return pool;
};

/** All bytes of a finished blob, read as an upload reads them. */
export const contentsOf = async (blob: {
  completed(): Promise<{ size: number }>;
  read(start: number, end: number): Readable;
}): Promise<Buffer> => buffer(blob.read(0, (await blob.completed()).size));

/** Runs a tool on bytes and gives what it prints; throws with its words when it fails. */
export const pipeThrough = (bytes: Buffer, command: string, ...args: string[]): Buffer =>
  execFileSync(command, args, { input: bytes, maxBuffer: 1024 * MIB, stdio: ['pipe', 'pipe', 'pipe'] });
