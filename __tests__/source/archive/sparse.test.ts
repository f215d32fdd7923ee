import { execFileSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pack } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTarFile } from '../../../src/source/archive/archive-file.ts';
import { RandomFile } from '../../../src/source/files.ts';

const FORMATS: readonly (readonly string[])[] = [
  ['--format=oldgnu'],
  ['--format=gnu'],
  ['--format=posix', '--sparse-version=0.0'],
  ['--format=posix', '--sparse-version=0.1'],
  ['--format=posix', '--sparse-version=1.0'],
];

/** How GNU tar itself reads them back was the judge of what is right here; `docker load` and skopeo accept the PAX formats. */
describe('sparse files in archives of GNU tar', () => {
  let work: string;
  const content = Buffer.alloc(3 << 20);
  const long = `${'long-name/'.repeat(15)}file`;

  beforeAll(() => {
    work = mkdtempSync(join(tmpdir(), 'chunked-push-sparse-'));
    mkdirSync(join(work, 'in', 'long-name/'.repeat(15)), { recursive: true });
    // Forty parts: more than one header of the old format maps, and than one extension block of it.
    for (let part = 0; part < 40; part += 1) content.write(`part ${part}`, part * 65_536 + 100);
    for (const name of ['ends in data', long]) writeSparse(name, content);
    writeSparse('ends in a hole', content.subarray(0, 2_900_001));
    writeSparse('only a hole', Buffer.alloc(1 << 20));
    writeFileSync(join(work, 'in', 'plain'), 'no hole');
  });
  afterAll(() => rmSync(work, { recursive: true }));

  function writeSparse(name: string, bytes: Buffer): void {
    const file = openSync(join(work, 'in', name), 'w');
    ftruncateSync(file, bytes.length);
    for (let at = 0; at < bytes.length; at += 4096) {
      const block = bytes.subarray(at, at + 4096);
      if (block.some((byte) => byte !== 0)) writeSync(file, block, 0, block.length, at);
    }
    closeSync(file);
  }

  it.each(FORMATS)('%s %s: every range is as it was', async (...options) => {
    const archive = join(work, 'a.tar');
    execFileSync('tar', ['-S', ...options, '-C', join(work, 'in'), '-cf', archive, '.']);
    expect(statSync(archive).size).toBeLessThan(1 << 20);
    const file = await RandomFile.open(archive);
    const files = await openTarFile(file, 'archive');
    for (const [name, bytes] of [
      ['ends in data', content],
      [long, content],
      ['ends in a hole', content.subarray(0, 2_900_001)],
      ['only a hole', Buffer.alloc(1 << 20)],
      ['plain', Buffer.from('no hole')],
    ] as const) {
      const open = await files.open(name);
      expect([name, open?.size, await files.size(name)]).toEqual([name, bytes.length, bytes.length]);
      expect((await buffer(open!.read())).equals(bytes), name).toBe(true);
      for (const [start, end] of [
        [0, 1],
        [100, 5000],
        [65_000, 200_000],
        [2_899_990, 4_000_000],
      ] as const) {
        const part = await buffer(open!.read(Math.min(start, bytes.length), end));
        expect(part.equals(bytes.subarray(start, end)), `${name} ${start}`).toBe(true);
      }
    }
    await files.close();
  });

  it.each([
    ['parts that overlap', '0,100,50,100', 1000, /overlapping/],
    ['a part after the end', '900,200', 1000, /overlapping/],
    ['a part that is no number', '0,x', 1000, /overlapping/],
    ['more holes than any layer', '0,10', 100 * 2 ** 30, /are holes: no layer has/],
    ['parts that are not stored', '0,900000', 1_000_000, /lacks parts/],
  ])('refuses a map with %s', async (_, map, size, message) => {
    const archive = join(work, 'wrong.tar');
    const tar = pack();
    tar.entry({ name: 'x', pax: { 'GNU.sparse.map': map, 'GNU.sparse.size': `${size}` } }, Buffer.alloc(150, 'x'));
    tar.finalize();
    writeFileSync(archive, await buffer(tar));
    const file = await RandomFile.open(archive);
    await expect(openTarFile(file, 'archive')).rejects.toThrow(message);
    await file.close();
  });

  it('passes over the label of a volume, whatever is in it', async () => {
    for (const label of ['label', '/absolute', '../out']) {
      const archive = join(work, 'label.tar');
      execFileSync('tar', ['-V', label, '-C', join(work, 'in'), '-cf', archive, 'plain']);
      const files = await openTarFile(await RandomFile.open(archive), 'archive');
      expect((await buffer((await files.open('plain'))!.read())).toString()).toBe('no hole');
      await files.close();
    }
  });
});
