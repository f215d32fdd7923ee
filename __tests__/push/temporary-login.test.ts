import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { type TemporaryLogin, withTemporaryLogin } from '../../src/push/fallback.ts';
import { commandOf } from '../support/real/parts.ts';
import { run } from '../support/real/processes.ts';
import { describeWith } from '../support/real/suite.ts';

const base64 = (text: string): string => Buffer.from(text).toString('base64');

async function loginIn(own: unknown, more: Partial<TemporaryLogin> = {}): Promise<TemporaryLogin> {
  const home = await mkdtemp(join(tmpdir(), 'login-'));
  onTestFinished(() => rm(home, { recursive: true }));
  await mkdir(join(home, '.docker/contexts/meta'), { recursive: true });
  await mkdir(join(home, 'temp'));
  if (own !== undefined)
    await writeFile(join(home, '.docker/config.json'), typeof own === 'string' ? own : JSON.stringify(own));
  const env = { HOME: home, RUNNER_TEMP: join(home, 'temp') };
  return { registry: 'r.test:5000', username: 'bob', password: 's3cret', env, ...more };
}

const read = async (env: NodeJS.ProcessEnv) =>
  JSON.parse(await readFile(join(env.DOCKER_CONFIG!, 'config.json'), 'utf8'));

it('is a private file over the settings of the user, and is removed at once', async () => {
  const own = { auths: { 'r.test:5000': { auth: 'old' }, 'a.test': { auth: 'a' } }, currentContext: 'c', proxies: {} };
  const login = await loginIn(own);
  const folder = await withTemporaryLogin(login, async (env) => {
    expect(await read(env)).toEqual({
      ...own,
      auths: { 'a.test': { auth: 'a' }, 'r.test:5000': { auth: base64('bob:s3cret') } },
    });
    expect((await stat(join(env.DOCKER_CONFIG!, 'config.json'))).mode & 0o777).toBe(0o600);
    expect((await stat(env.DOCKER_CONFIG!)).mode & 0o777).toBe(0o700);
    expect((await stat(env.REGISTRY_AUTH_FILE!)).mode & 0o777).toBe(0o600);
    // docker finds the user's contexts there.
    expect(await readdir(join(env.DOCKER_CONFIG!, 'contexts'))).toEqual(['meta']);
    return env.DOCKER_CONFIG!;
  });
  expect(existsSync(folder)).toBe(false);
  // What was linked stays.
  expect(existsSync(join(login.env.HOME!, '.docker/contexts/meta'))).toBe(true);
});

it('is removed after a failure too', async () => {
  const login = await loginIn(undefined);
  const failing = withTemporaryLogin(login, async () => Promise.reject(new Error('no')));
  await expect(failing).rejects.toThrow('no');
  expect(await readdir(login.env.RUNNER_TEMP!)).toEqual([]);
});

it.each([
  ['a store', { credsStore: 'desktop' }, { 'r.test:5000': '' }],
  ['a helper', { credHelpers: { 'r.test:5000': 'cloud', 'a.test': 'a' } }, { 'r.test:5000': '', 'a.test': 'a' }],
])('comes before %s of the user', async (_, own, credHelpers) => {
  await withTemporaryLogin(await loginIn(own), async (env) => {
    expect((await read(env)).credHelpers).toEqual(credHelpers);
    // Podman takes a helper without a name for `docker-credential-`.
    expect(JSON.parse(await readFile(env.REGISTRY_AUTH_FILE!, 'utf8'))).toEqual({
      auths: { 'r.test:5000': { auth: base64('bob:s3cret') } },
    });
  });
});

it.each([['nothing'], ['{'], ['[]']])('needs no settings of the user: %s', async (own) => {
  await withTemporaryLogin(await loginIn(own === 'nothing' ? undefined : own), async (env) => {
    expect(await read(env)).toEqual({ auths: { 'r.test:5000': { auth: base64('bob:s3cret') } } });
  });
});

describeWith(['skopeo'], 'for the libraries of Podman', () => {
  it.each([
    ['a store', { credsStore: 'desktop' }],
    ['a helper', { credHelpers: { 'r.test:5000': 'cloud' } }],
    ['an entry of a namespace', { auths: { 'r.test:5000/team': { auth: base64('eve:x') } } }],
  ])('come before %s of the user', async (_, own) => {
    await withTemporaryLogin(await loginIn(own), async (env) => {
      const args = ['login', '--get-login', 'r.test:5000'];
      const output = await run(commandOf('skopeo', 'skopeo'), args, { env: { PATH: process.env.PATH, ...env } });
      expect(output.trim()).toBe('bob');
    });
  });
});

it('has both names of Docker Hub, and an identity token as one', async () => {
  const login = await loginIn(undefined, { registry: 'docker.io', username: '<token>', password: 'id' });
  await withTemporaryLogin(login, async (env) => {
    const { auths } = await read(env);
    expect(auths).toEqual({
      'docker.io': { identitytoken: 'id' },
      'https://index.docker.io/v1/': { identitytoken: 'id' },
    });
  });
});
