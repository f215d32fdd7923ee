import { mkdtempSync, readdirSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type SpoolOptions, spoolArchive, spoolBytes } from '../../../src/source/archive/spool.ts';
import type { RandomFile } from '../../../src/source/files.ts';
import { tarOf } from '../fixtures.ts';

const MIB = 2 ** 20;

/** A small entry. */
const TAR_BYTES = 1024;

let tempDir: string;
beforeAll(() => {
  tempDir = mkdtempSync(join(tmpdir(), 'chunked-push-spool-'));
});
afterAll(() => rmSync(tempDir, { recursive: true }));

const options = (more: Partial<SpoolOptions> = {}): SpoolOptions => ({
  description: 'archive a.tar.gz',
  failure: "can't be decompressed (gzip)",
  tempDir,
  signal: new AbortController().signal,
  ...more,
});

/** A source that counts what is taken from it. */
function counted(chunk: Buffer, times: number, first: Buffer = Buffer.alloc(0)) {
  const state = { bytes: 0, isEnded: false };
  async function* chunks() {
    try {
      yield first;
      for (let at = 0; at < times; at += 1) {
        state.bytes += chunk.length;
        yield chunk;
      }
    } finally {
      state.isEnded = true;
    }
  }
  return Object.assign(state, { chunks: chunks() });
}

/** A header of one file of this size, without its body. */
async function header(name: string, size: number): Promise<Buffer> {
  const bytes = (await tarOf([{ name, body: 'x' }])).subarray(0, 512);
  bytes.write(`${size.toString(8).padStart(11, '0')}\0`, 124);
  bytes.fill(0x20, 148, 156);
  bytes.write(
    `${bytes
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0')}\0 `,
    148,
  );
  return Buffer.from(bytes);
}

/** Bytes that an open file takes on the disk. */
async function onDisk(file: RandomFile): Promise<number> {
  const path = (await file.resolvedPath())!;
  expect(path).toContain('(deleted)');
  const { blocks } = statSync(`/proc/self/fd/${fdOf(path)}`);
  return blocks * 512;
}

const fdOf = (path: string): string =>
  readdirSync('/proc/self/fd').findLast((fd) => {
    try {
      return statSync(`/proc/self/fd/${fd}`).isFile() && linkOf(fd) === path;
    } catch {
      return false;
    }
  })!;
const linkOf = (fd: string): string => readlinkSync(`/proc/self/fd/${fd}`);

describe('an archive that is unpacked or comes out of a pipe', () => {
  it('is copied up to its end mark, and leaves no name behind', async () => {
    const tar = await tarOf([
      { name: 'a', body: Buffer.alloc(100_000, 'x') },
      { name: 'b', body: 'b' },
    ]);
    const padding = Buffer.alloc(20_000);
    async function* pieces() {
      for (let at = 0; at < tar.length; at += 777) yield tar.subarray(at, at + 777);
      yield padding;
    }
    const file = await spoolArchive(pieces(), options());
    const copy = await buffer(file.stream(0, file.size));
    expect(copy.equals(tar.subarray(0, copy.length))).toBe(true);
    expect(tar.subarray(copy.length).every((byte) => byte === 0)).toBe(true);
    expect(readdirSync(tempDir)).toEqual([]);
    await file.close();
  });

  it('lies in a folder of its user alone, whatever the umask', async () => {
    const umask = process.umask(0);
    onTestFinished(() => void process.umask(umask));
    const below = join(tempDir, 'private', 'chunked-push');
    onTestFinished(() => rmSync(join(tempDir, 'private'), { recursive: true }));
    const zeros = counted(Buffer.alloc(TAR_BYTES), 1, await header('layer.tar', TAR_BYTES));
    const file = await spoolArchive(zeros.chunks, options({ tempDir: below }));
    await file.close();
    expect(statSync(below).mode & 0o777).toBe(0o700);
  });

  it('keeps zeros as holes: a layer of them takes no room on the disk', async () => {
    const zeros = counted(Buffer.alloc(MIB), 200, await header('layer.tar', 200 * MIB));
    const file = await spoolArchive(zeros.chunks, options());
    expect(file.size).toBeGreaterThanOrEqual(200 * MIB);
    expect(await onDisk(file)).toBeLessThan(MIB);
    expect((await file.read(100 * MIB, 10)).equals(Buffer.alloc(10))).toBe(true);
    await file.close();
  });

  it.each([
    ['nothing but zeros', () => Promise.resolve(Buffer.alloc(0)), /it has no entries/],
    [
      'a list that is no list',
      () => header('./manifest.json', 2 ** 31),
      /manifest.json .* has 2147483648 bytes, more than/,
    ],
    ['a config that is none', () => header(`${'a'.repeat(64)}.json`, 2 ** 31), /has 2147483648 bytes, more than/],
    ['a name that leads out', () => header('../x', 2 ** 31), /a name that leads out/],
    ['no header', () => Promise.resolve(Buffer.alloc(512, 'y')), /its header at byte 0 is not one/],
  ])('%s: is refused at its first block', async (_, first, message) => {
    const bomb = counted(Buffer.alloc(MIB), 3000, await first());
    await expect(spoolArchive(bomb.chunks, options())).rejects.toThrow(message);
    expect(bomb.bytes).toBeLessThanOrEqual(2 * MIB);
    expect(bomb.isEnded).toBe(true);
    expect(readdirSync(tempDir)).toEqual([]);
  });

  it('is refused when it unpacks to hundreds of times its size, and that is no hole', async () => {
    const bomb = counted(Buffer.alloc(MIB, 'y\n'), 3000, await header('layer.tar', 3000 * MIB));
    await expect(spoolArchive(bomb.chunks, options({ packedSize: MIB }))).rejects.toThrow(
      'more than 200 times as many',
    );
    expect(bomb.bytes).toBeLessThan(300 * MIB);
    expect(readdirSync(tempDir)).toEqual([]);
  });

  it('is not read on after its end', async () => {
    const tar = await tarOf([{ name: 'a', body: 'a' }]);
    const bomb = counted(Buffer.alloc(MIB), 3000, tar);
    const file = await spoolArchive(bomb.chunks, options());
    expect(bomb.bytes).toBeLessThanOrEqual(2 * MIB);
    await file.close();
  });

  it('ends at once when it is cancelled', async () => {
    const stop = new AbortController();
    async function* endless() {
      for (let at = 0; ; at += 1) {
        if (at === 5) stop.abort(new Error('cancelled'));
        yield Buffer.alloc(100, 'x');
      }
    }
    await expect(spoolBytes(endless(), options({ signal: stop.signal }))).rejects.toThrow('cancelled');
    expect(readdirSync(tempDir)).toEqual([]);
  });

  it('says that the bytes could not be had', async () => {
    async function* broken() {
      yield Buffer.alloc(100, 'x');
      throw new Error('incorrect data check');
    }
    await expect(spoolBytes(broken(), options())).rejects.toMatchObject({
      message: "archive a.tar.gz can't be decompressed (gzip): incorrect data check",
    });
  });
});
