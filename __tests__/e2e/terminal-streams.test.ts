/** The command where its output goes nowhere, or its input is not what it should be. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy/proxy.ts';
import { writeDockerArchive } from '../support/images.ts';
import { unknownUser } from '../support/real/other-user.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { runCommand, runInTerminal } from '../support/terminal.ts';

const cli = join(import.meta.dirname, '../../dist/cli.js');

let folder: string;
let image: string;
let registry: Registry;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'chunked-push-streams-'));
  image = `docker-archive:${join(folder, 'image.tar')}`;
  await writeDockerArchive(join(folder, 'image.tar'), 'app:1', {
    seed: 'streams',
    layers: [{ bytes: 3_000_000, content: 'random' }, { bytes: 100 }],
  });
  registry = await startRegistry();
});

afterAll(async () => {
  await registry?.close();
  rmSync(folder, { recursive: true });
});

/** The exit code of a shell's command; `$cli` is ours. */
async function shell(command: string): Promise<{ code: number; stdout: string; stderr: string }> {
  const env = { PATH: process.env.PATH, HOME: folder, cli: `${process.execPath} ${cli}`, image, host: registry.host };
  const child = spawn('bash', ['-c', command], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const printed = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (text: string) => {
      printed[name] += text;
    });
  const [code] = (await once(child, 'close')) as [number];
  return { code, ...printed };
}

describe('standard output', () => {
  it('reaches a slow reader completely', async () => {
    const layers = Array.from({ length: 300 }, () => ({ bytes: 50 }));
    await writeDockerArchive(join(folder, 'many.tar'), 'many:1', { seed: 'many', layers });
    const { code, stdout } = await shell(
      `$cli docker-archive:${folder}/many.tar --to $host/many/app:1 --json 2>/dev/null | (sleep 2; cat)`,
    );
    expect(code).toBe(0);
    // More than a pipe holds.
    expect(stdout.length).toBeGreaterThan(65_536);
    expect(JSON.parse(stdout).metadata.blobs).toHaveLength(301);
  });

  it('that can not be written is a failure, and one that is closed is none', async () => {
    expect(await shell('$cli --version > /dev/full')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^error: standard output: ENOSPC.*\n$/),
    });
    expect(await shell('set -o pipefail; (sleep 0.5; exec $cli --help) | true; echo $?')).toEqual({
      code: 0,
      stdout: '0\n',
      stderr: '',
    });
  });
});

describe('standard error', () => {
  let proxy: FaultProxy;

  beforeAll(async () => {
    proxy = await startFaultProxy({ target: registry.host, bandwidth: 3_000_000 });
  });

  afterAll(() => proxy?.close());

  it.each(['2> >(head -1 >/dev/null)', '2>/dev/full', '2>&-'])(
    'that is closed or full does not end a push: %s',
    async (to) => {
      const { code, stdout } = await shell(`$cli $image --to ${proxy.host}/quiet/app:1 --no-cache --verbose ${to}`);
      expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/@sha256:[0-9a-f]{64}\n$/) });
    },
  );
});

describe('standard input', () => {
  it.each([
    ['is empty', '--username me --password-stdin', 'standard input holds no password'],
    ['is of nobody', '--password-stdin', '--password-stdin needs --username'],
    ['is not read', '--username me', '--username needs --password-stdin'],
  ])('with a password that %s is wrong usage', async (_, flags, message) => {
    const { code, stderr } = await shell(`$cli $image --to $host/in/app:1 ${flags} <<< ''`);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });
});

it('a dumb terminal gets lines and no bars', async () => {
  const options = { env: { HOME: folder, TERM: 'dumb' }, columns: 80, rows: 24 };
  const { exitCode, raw } = await runInTerminal([image, '--to', `${registry.host}/dumb/app:1`, '--no-cache'], options);
  expect(exitCode).toBe(0);
  expect(raw).not.toContain('\x1b');
  expect(raw).toContain('uploaded, 3 MB');
});

it('a cache folder that can not be made is no reason to fail', async () => {
  const cache = join(folder, 'no-folder');
  writeFileSync(cache, '');
  const args = [image, '--to', `${registry.host}/cacheless/app:1`];
  const temporary = mkdtempSync(join(folder, 'tmp-'));
  const env = { HOME: folder, XDG_CACHE_HOME: cache, TMPDIR: temporary };
  const { exitCode, stderr } = await runCommand(args, { env });
  expect(stderr).toMatch(/^notice: .*no-folder\/chunked-push can't be written \(ENOTDIR\): no layers are kept/m);
  expect(exitCode).toBe(0);
  expect(readdirSync(temporary)).toEqual([]);
});

it('a user who has no home pushes', async () => {
  const user = unknownUser();
  try {
    const as = user
      .command([process.execPath, cli])
      .map((word) => `'${word}'`)
      .join(' ');
    const { code, stderr } = await shell(`unset HOME; exec ${as} --version`);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const nowhere = await shell(`unset HOME; cd /; exec ${as} docker-archive:/nowhere.tar --to $host/homeless/app:1`);
    expect(nowhere.stderr).toMatch(/the archive \/nowhere\.tar does not exist/);
  } finally {
    user.remove();
  }
});
