/** The parts of the release archives that need no Node.js of another system. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ArchivedFile, writeTarball, writeZip } from '../../scripts/release/archive.ts';
import { WINDOWS_LAUNCHER } from '../../scripts/release/launchers.ts';
import { SYSTEMS } from '../../scripts/release/systems.ts';

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'chunked-push-archive-files-'));
});

afterAll(() => rmSync(folder, { recursive: true }));

describe('the archives', () => {
  it('are for Linux, macOS and Windows, each with a Node.js that is pinned by a hash', () => {
    expect(SYSTEMS.map(({ name }) => name)).toEqual([
      'linux-x64',
      'linux-arm64',
      'macos-arm64',
      'macos-x64',
      'windows-x64',
    ]);
    for (const { node } of SYSTEMS) {
      expect(node.version).toMatch(/^2[46]\.\d+\.\d+$/);
      expect(Buffer.from(node.integrity.replace('sha512-', ''), 'base64')).toHaveLength(64);
    }
  });

  const files: readonly ArchivedFile[] = [
    { path: 'it/z.txt', content: Buffer.from('text\n') },
    { path: 'it/a', content: Buffer.from('#!/bin/sh\necho it runs\n'), isProgram: true },
  ];
  const time = new Date('2026-02-03T04:05:06Z');

  it.each([
    ['tar.gz', writeTarball],
    ['zip', writeZip],
  ] as const)('are the same bytes for the same files: %s', async (ending, write) => {
    const [one, other] = [join(folder, `one.${ending}`), join(folder, `other.${ending}`)];
    await write(one, files, time);
    await write(other, files.toReversed(), time);
    expect(readFileSync(one).equals(readFileSync(other))).toBe(true);
  });

  it('are packed with modes and times, owned by root', async () => {
    const path = join(folder, 'it.tar.gz');
    await writeTarball(path, files, time);
    const unpacked = extract();
    unpacked.end(gunzipSync(readFileSync(path)));
    const headers: unknown[] = [];
    for await (const entry of unpacked) {
      const { name, mode, mtime, uid, gid, size } = entry.header;
      headers.push([name, mode, mtime?.toISOString(), uid, gid, size]);
      entry.resume();
    }
    expect(headers).toEqual([
      ['it/a', 0o755, time.toISOString(), 0, 0, 23],
      ['it/z.txt', 0o644, time.toISOString(), 0, 0, 5],
    ]);
  });

  it('start Node.js on Windows by the folder of the launcher, in lines that cmd.exe understands', () => {
    expect(WINDOWS_LAUNCHER.split('\r\n')).toEqual(['@echo off', '"%~dp0node\\node.exe" "%~dp0dist\\cli.js" %*', '']);
  });
});
