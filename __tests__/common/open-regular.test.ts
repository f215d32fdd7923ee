import { execFileSync } from 'node:child_process';
import { mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { NotRegularError, openRegular, readRegular, readRegularSync } from '../../src/common/open-regular.ts';

const folder = mkdtempSync(join(tmpdir(), 'open-regular-'));
const path = (name: string) => join(folder, name);

describe('files opened by a name from outside', () => {
  it('reads a regular file, through links too, on this thread or another', async () => {
    writeFileSync(path('file'), 'some text');
    symlinkSync('file', path('link'));
    expect((await readRegular(path('link'), 100)).toString()).toBe('some text');
    expect(readRegularSync(path('link'), 100).toString()).toBe('some text');
    await expect(readRegular(path('file'), 8)).rejects.toThrow('has 9 bytes, more than the 8');
    expect(() => readRegularSync(path('file'), 8)).toThrow('has 9 bytes, more than the 8');
    await expect(openRegular(path('absent'))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('reads files of /proc, which say that they are empty', async () => {
    expect((await readRegular('/proc/self/status', 1e5)).toString()).toContain('Name:');
    await expect(readRegular('/proc/self/status', 10)).rejects.toThrow('more than the 10');
  });

  it('refuses a FIFO without a writer, a socket, a device and a folder at once', async () => {
    execFileSync('mkfifo', [path('fifo')]);
    symlinkSync('fifo', path('to-fifo'));
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(path('socket'), resolve));
    for (const [name, what] of [
      ['fifo', 'is a FIFO'],
      ['to-fifo', 'is a FIFO'],
      ['socket', 'is a socket'],
      ['', 'is a folder'],
      ['../../../../../../dev/zero', 'is a device'],
    ] as const) {
      await expect(openRegular(path(name)), name).rejects.toThrow(what);
      expect(() => readRegularSync(path(name), 10), name).toThrow(NotRegularError);
    }
    await new Promise((resolve) => server.close(resolve));
  });
});
