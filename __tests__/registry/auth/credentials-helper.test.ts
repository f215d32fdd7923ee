import { existsSync, readFileSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished, vi } from 'vitest';
import { askHelper } from '../../../src/registry/auth/credentials.ts';
import { until, useFakeTimers } from '../helpers/loopback.ts';

it('does not wait for a helper that hangs', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'helper-'));
  const { PATH } = process.env;
  process.env.PATH = `${folder}:${PATH}`;
  onTestFinished(async () => {
    process.env.PATH = PATH;
    await rm(folder, { recursive: true });
  });
  const program = join(folder, 'docker-credential-slow');
  const [pid, over] = [join(folder, 'pid'), join(folder, 'over')];
  await writeFile(program, `#!/bin/sh\necho $$ >'${pid}'\nwhile [ ! -e '${over}' ]; do sleep 0.05; done\n`);
  await chmod(program, 0o755);
  useFakeTimers();
  const asked = expect(askHelper({ name: 'slow', server: 'r.test', env: process.env })).rejects.toMatchObject({
    message: 'credential helper docker-credential-slow did not answer within 30 s',
    remedy: expect.stringContaining('credHelpers'),
  });
  const itself = () => `/proc/${existsSync(pid) ? readFileSync(pid, 'utf8').trim() : ''}`;
  await until(() => itself() !== '/proc/');
  expect(existsSync(itself())).toBe(true);
  vi.advanceTimersByTime(30_000);
  await asked;
  // It was ended, not left behind.
  await until(() => !existsSync(itself()));
});
