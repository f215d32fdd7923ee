import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RandomFile } from '../../src/source/files.ts';

describe('RandomFile', () => {
  let folder: string;
  let path: string;
  const bytes = Buffer.from(Array.from({ length: 700_000 }, (_, at) => (at * 7) % 251));

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-file-'));
    path = join(folder, 'file');
    writeFileSync(path, bytes);
  });

  afterAll(() => rmSync(folder, { recursive: true }));

  it('gives any range, in one piece or as a stream', async () => {
    const file = await RandomFile.open(path);
    expect(file.size).toBe(bytes.length);
    expect((await file.read(5, 10)).equals(bytes.subarray(5, 15))).toBe(true);
    expect((await buffer(file.stream(3, 600_000))).equals(bytes.subarray(3, 600_000))).toBe(true);
    expect(await buffer(file.stream(7, 7))).toHaveLength(0);
    await file.close();
  });

  it('stays open when one of its streams is destroyed, before its first byte, in the middle, or after its end', async () => {
    const file = await RandomFile.open(path);
    const early = file.stream(0, 600_000);
    const middle = file.stream(0, 600_000);
    const whole = file.stream(0, 600_000);
    const closed = Promise.all(
      [early, middle, whole].map((stream) => new Promise((resolve) => stream.once('close', resolve))),
    );
    early.destroy();
    for await (const _ of middle) break;
    await buffer(whole);
    whole.destroy();
    await closed;
    expect((await buffer(file.stream(0, bytes.length))).equals(bytes)).toBe(true);
    await file.close();
    await file.close();
  });
});
