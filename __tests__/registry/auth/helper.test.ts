import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { askHelper } from '../../../src/registry/auth/helper.ts';

it('does not wait for a helper that hangs', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'helper-'));
  const { PATH } = process.env;
  process.env.PATH = `${folder}:${PATH}`;
  onTestFinished(async () => {
    process.env.PATH = PATH;
    await rm(folder, { recursive: true });
  });
  const program = join(folder, 'docker-credential-slow');
  await writeFile(program, '#!/bin/sh\nexec sleep 60\n');
  await chmod(program, 0o755);
  const started = performance.now();
  await expect(askHelper({ name: 'slow', server: 'r.test', env: process.env, timeout: 300 })).rejects.toMatchObject({
    message: 'credential helper docker-credential-slow did not answer within 0.3 s',
    remedy: expect.stringContaining('credHelpers'),
  });
  expect(performance.now() - started).toBeLessThan(50_000);
});
