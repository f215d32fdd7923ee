import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { UploadSessions, uploadSessionsFolder } from '../../src/cache/upload-sessions.ts';

const REPOSITORY = 'registry.example.com/team/app';
const BLOB = `sha256:${'a'.repeat(64)}`;
const LOCATION = 'https://registry.example.com/v2/team/app/blobs/uploads/1?_state=secret';

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'upload-sessions-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A process that has noted a session. */
async function pushOf(dir: string, location = LOCATION) {
  const program = fileURLToPath(new URL('../support/owner.ts', import.meta.url));
  const child = fork(program, [dir, REPOSITORY, BLOB, location], { execArgv: [] });
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(child, 'message');
  return {
    kill: async () => {
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

it('the session of a killed push is taken once, for the same blob in the same repository', async () => {
  const dir = folder();
  await (await pushOf(dir)).kill();
  const [one, other] = [new UploadSessions(dir), new UploadSessions(dir)];
  expect(await one.take(REPOSITORY, `sha256:${'b'.repeat(64)}`)).toBeUndefined();
  expect(await one.take('registry.example.com/team/api', BLOB)).toBeUndefined();
  const taken = await Promise.all([one.take(REPOSITORY, BLOB), other.take(REPOSITORY, BLOB)]);
  expect(taken.filter((note) => note)).toEqual([{ location: LOCATION, offset: 1000, chunkSize: 500 }]);
  expect(await new UploadSessions(dir).take(REPOSITORY, BLOB)).toBeUndefined();
});

it('the session of a push that still runs is left alone', async () => {
  const dir = folder();
  const push = await pushOf(dir);
  const next = new UploadSessions(dir);
  expect(await next.take(REPOSITORY, BLOB)).toBeUndefined();
  await push.kill();
  expect(await next.take(REPOSITORY, BLOB)).toBeDefined();
});

it('the newest location counts, and nothing stays when the upload or the push has ended', async () => {
  const dir = folder();
  const sessions = new UploadSessions(dir);
  sessions.note(REPOSITORY, BLOB, { location: LOCATION, offset: 0 });
  sessions.note(REPOSITORY, BLOB, { location: `${LOCATION}2`, offset: 5, chunkSize: 5 });
  sessions.note('other', BLOB, { location: LOCATION, offset: 0 });
  expect(readdirSync(join(dir, 'uploads'))).toHaveLength(2);
  sessions.note(REPOSITORY, BLOB, undefined);
  expect(readdirSync(join(dir, 'uploads'))).toHaveLength(1);
  sessions.close();
  expect(readdirSync(join(dir, 'uploads'))).toEqual([]);
});

it('notes are readable by their owner alone, and their names tell nothing', async () => {
  const umask = process.umask(0);
  onTestFinished(() => void process.umask(umask));
  const dir = folder();
  new UploadSessions(dir).note(REPOSITORY, BLOB, { location: LOCATION, offset: 0 });
  const [name] = readdirSync(join(dir, 'uploads'));
  expect(statSync(join(dir, 'uploads')).mode & 0o777).toBe(0o700);
  expect(statSync(join(dir, 'uploads', name!)).mode & 0o777).toBe(0o600);
  expect(name).not.toMatch(/team|secret/);
});

const DAMAGED = [
  '',
  '{',
  '[]',
  'null',
  '{"version":2,"location":"https://r/1","offset":0}',
  '{"version":1,"offset":0}',
];
const WRONG = [
  { location: 'no url', offset: 0 },
  { location: LOCATION, offset: -1 },
  { location: LOCATION, offset: '1' },
];

it.each([...DAMAGED, ...WRONG.map((one) => JSON.stringify({ version: 1, ...one }))])('%s is no note', async (text) => {
  const dir = folder();
  await (await pushOf(dir)).kill();
  const [name] = readdirSync(join(dir, 'uploads'));
  writeFileSync(join(dir, 'uploads', name!), text);
  expect(await new UploadSessions(dir).take(REPOSITORY, BLOB)).toBeUndefined();
  expect(readdirSync(join(dir, 'uploads'))).toEqual([]);
});

it('a session that the registry has forgotten by now is not taken', async () => {
  const dir = folder();
  await (await pushOf(dir)).kill();
  const [name] = readdirSync(join(dir, 'uploads'));
  const before = Date.now() / 1000 - 8 * 24 * 60 * 60;
  utimesSync(join(dir, 'uploads', name!), before, before);
  expect(await new UploadSessions(dir).take(REPOSITORY, BLOB)).toBeUndefined();
  expect(readdirSync(join(dir, 'uploads'))).toEqual([]);
});

it('a folder that can not be used costs nothing but the help', async () => {
  const dir = join(folder(), 'file');
  writeFileSync(dir, '');
  const sessions = new UploadSessions(dir);
  sessions.note(REPOSITORY, BLOB, { location: LOCATION, offset: 0 });
  expect(await sessions.take(REPOSITORY, BLOB)).toBeUndefined();
  sessions.close();
});

it('sessions are noted where a later push finds them', () => {
  const env = { XDG_CACHE_HOME: '/cache' };
  const where = (isAction: boolean, environment?: string) =>
    uploadSessionsFolder({ workDir: '/work', isAction, env: { ...env, RUNNER_ENVIRONMENT: environment } });
  expect(where(false)).toBe('/work');
  expect(where(true, 'github-hosted')).toBeUndefined();
  expect(where(true)).toBeUndefined();
  expect(where(true, 'self-hosted')).toBe(join('/cache', 'chunked-push'));
});
