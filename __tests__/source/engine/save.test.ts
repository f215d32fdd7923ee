import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { ImageError } from '../../../src/common/error.ts';
import type { Exporter } from '../../../src/source/archive/stream.ts';
import { startExport } from '../../../src/source/engine/save.ts';
import { run } from '../../support/real/processes.ts';
import { hashOf } from '../fixtures.ts';
import { bytesOf, failureOf, never, ownTemporaryFolder } from './exports.ts';

const folder = ownTemporaryFolder();

const shell = (script: string) => startExport('docker save', ['sh', '-c', script], process.env, never);
const readSome = ({ input }: Exporter, bytes: number) => input.fill(new Uint8Array(bytes)).catch(() => {});
const alive = (pid: number) => existsSync(`/proc/${pid}`);
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe('an export through a FIFO', () => {
  it('gives every byte, and ends only after the tool has come and gone', async () => {
    const exporter = await shell('sleep 0.3; head -c 3000000 /dev/zero');
    expect((await hashOf(bytesOf(exporter))).size).toBe(3_000_000);
    await exporter.finished;
    await exporter.stop();
  });

  it('makes a fast tool wait for a slow reader', async () => {
    const exporter = await shell('head -c 200000000 /dev/zero; echo done >&2');
    let over = false;
    const settled = () => {
      over = true;
    };
    exporter.finished.then(settled, settled);
    const before = process.memoryUsage.rss();
    await readSome(exporter, 1000);
    // As much goes through another pipe meanwhile.
    await run('sh', ['-c', 'head -c 200000000 /dev/zero | cat >/dev/null']);
    expect(over).toBe(false);
    expect(process.memoryUsage.rss() - before).toBeLessThan(50_000_000);
    await exporter.stop();
  });

  it('ends for a tool that writes nothing', async () => {
    const exporter = await shell('true');
    expect((await hashOf(bytesOf(exporter))).size).toBe(0);
    await exporter.finished;
    await exporter.stop();
  });

  it('ends for a tool that closes its output and lives on', async () => {
    const exporter = await shell('exec >&-; sleep 0.2');
    expect((await hashOf(bytesOf(exporter))).size).toBe(0);
    await exporter.finished;
    await exporter.stop();
  });

  it('tells the exit code and the first words of a tool that fails, however much it says', async () => {
    const exporter = await shell('head -c 1000 /dev/zero; echo "Error response from daemon: no space" >&2; exit 3');
    void readSome(exporter, 2000);
    expect(await failureOf(exporter.finished)).toMatchObject({
      name: 'ImageError',
      step: 'Export',
      message: 'docker save failed with exit code 3: no space',
    });
    await exporter.stop();
    const loud = await shell('yes "a line of stderr" | head -c 3000000 >&2; exit 1');
    const error = (await failureOf(loud.finished)) as Error;
    expect(error.message.length).toBeLessThan(200);
    await loud.stop();
  });

  it('fails for a tool that does not exist, and the stream with it', async () => {
    const exporter = await startExport('docker save', [join(folder.path, 'nothing')], process.env, never);
    void readSome(exporter, 2000);
    expect(await failureOf(exporter.finished)).toMatchObject({
      message: expect.stringMatching(/exit code 127: .*not found/),
    });
    await exporter.stop();
  });

  it('fails when not even a shell can be started', async () => {
    const path = process.env.PATH;
    const exporter = await shell('true');
    await exporter.stop();
    process.env.PATH = '/nowhere';
    try {
      expect(await failureOf(shell('true'))).toBeInstanceOf(ImageError);
    } finally {
      process.env.PATH = path;
    }
  });

  it('ends the tool itself, whenever it is stopped', async () => {
    for (const wait of [0, 5, 20, 100]) {
      const pidFile = join(folder.path, `pid-${wait}`);
      const exporter = await shell(`echo $$ > '${pidFile}'; exec sleep 60`);
      await pause(wait);
      await exporter.stop();
      // It may have been stopped before it could write anything.
      const pid = existsSync(pidFile) ? readFileSync(pidFile, 'utf8') : '';
      if (pid !== '') expect(alive(Number(pid))).toBe(false);
      expect(await failureOf(exporter.finished)).toMatchObject({ message: 'docker save was stopped' });
    }
  });

  it('ends the tool itself once it is at work', async () => {
    const exporter = await shell('echo $$; exec sleep 60 >&-');
    const pid = Number((await buffer(bytesOf(exporter))).toString());
    expect(alive(pid)).toBe(true);
    await exporter.stop();
    expect(alive(pid)).toBe(false);
  });

  it('asks a tool to end before it makes it', async () => {
    const said = join(folder.path, 'said');
    const exporter = await shell(`trap 'echo "$$ ends" >>"${said}"; exit' TERM; echo up; while :; do sleep 0.05; done`);
    await readSome(exporter, 1);
    await exporter.stop();
    expect(readFileSync(said, 'utf8')).toMatch(/^\d+ ends\n$/);
  });

  it('ends a tool that waits in a write, and one that does not end at SIGTERM', async () => {
    const writing = await shell('cat /dev/zero');
    await readSome(writing, 1);
    await writing.stop();
    const said = join(folder.path, 'stubborn');
    const stubborn = await shell(`trap 'echo $$ >>"${said}"' TERM; echo up; while :; do sleep 0.05; done`);
    await readSome(stubborn, 1);
    await stubborn.stop();
    const pid = Number(readFileSync(said, 'utf8'));
    expect(pid).toBeGreaterThan(1);
    expect(alive(pid)).toBe(false);
  });

  it('gives a tool that asks something no answer', async () => {
    const exporter = await shell('read answer || echo silence');
    expect((await hashOf(bytesOf(exporter))).size).toBe('silence\n'.length);
    await exporter.finished;
    await exporter.stop();
  });

  it('is not started after a cancel', async () => {
    const reason = new Error('cancelled');
    const started = startExport('docker save', ['sh', '-c', 'true'], process.env, AbortSignal.abort(reason));
    await expect(started).rejects.toBe(reason);
  });
});
