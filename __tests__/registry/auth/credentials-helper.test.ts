import { existsSync, readFileSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { askHelper } from '../../../src/registry/auth/credentials.ts';

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
  const asked = askHelper({ name: 'slow', server: 'r.test', env: process.env, timeout: 300 });
  await expect(asked).rejects.toMatchObject({
    message: 'credential helper docker-credential-slow did not answer within 0.3 s',
    remedy: expect.stringContaining('credHelpers'),
  });
  // It was ended, not left behind.
  const itself = `/proc/${readFileSync(pid, 'utf8').trim()}`;
  await expect.poll(() => existsSync(itself)).toBe(false);
});
