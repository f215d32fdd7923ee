import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { digestOf } from '../../src/oci/types.ts';
import { mayFallBack, pushByEngine, type TemporaryLogin, withTemporaryLogin } from '../../src/push/fallback.ts';
import { RegistryError } from '../../src/registry/http/error.ts';
import type { FoundImage } from '../../src/source/source.ts';
import { commandOf } from '../support/real/parts.ts';
import { run } from '../support/real/processes.ts';
import { describeWith } from '../support/real/suite.ts';
import { contextForTest } from './bench.ts';

const DIGEST = digestOf(Buffer.from('by the engine'));

const registryError = (kind: 'auth' | 'denied' | 'reset') =>
  new RegistryError({ kind, method: 'POST', url: new URL('https://r.example/v2/'), reason: 'no', temporary: false });

/** An image in an engine whose push takes every reference but those named. */
const imageWith = (refused: readonly string[] = []): FoundImage & { readonly pushed: string[] } => {
  const pushed: string[] = [];
  return {
    name: 'app:1',
    imageId: DIGEST,
    engine: 'docker',
    pushed,
    open: () => Promise.reject(new Error('nothing is read here')),
    push: async (reference) => {
      if (refused.includes(reference)) throw new Error('the engine was refused too');
      pushed.push(reference);
      return DIGEST;
    },
  };
};

const context = async (fallback = 'engine') =>
  contextForTest({ tags: 'r.example/team/app:1,r.example/team/app:2,other.example/app:1', fallback });

describe('the engine may push instead', () => {
  it('only where that was asked for, and where there is an engine', async () => {
    const { push: _, ...file } = imageWith();
    const { context: asked } = await context();
    const { context: notAsked } = await context('none');
    expect(mayFallBack(asked, imageWith(), new Error('any'))).toBe(true);
    expect(mayFallBack(asked, file, new Error('any'))).toBe(false);
    expect(mayFallBack(notAsked, imageWith(), new Error('any'))).toBe(false);
  });

  it('never for wrong credentials, however deep they are, nor after a cancel', async () => {
    const { context: asked, cancel } = await context();
    expect(mayFallBack(asked, imageWith(), registryError('auth'))).toBe(false);
    expect(mayFallBack(asked, imageWith(), new Error('x', { cause: registryError('denied') }))).toBe(false);
    expect(mayFallBack(asked, imageWith(), registryError('reset'))).toBe(true);
    cancel.abort();
    expect(mayFallBack(asked, imageWith(), registryError('reset'))).toBe(false);
  });
});

describe('pushByEngine', () => {
  it('pushes what failed, tag by tag, and nothing else', async () => {
    const { context: asked, events } = await context();
    const [first, second] = asked.registries.flatMap(({ repositories: destinations }) => destinations);
    for (const reference of second?.references ?? []) second?.confirm(reference, digestOf(Buffer.from('ours')));
    first?.fail(new Error('a proxy'));
    const image = imageWith();
    await pushByEngine(asked, image);
    expect(image.pushed).toEqual(['r.example/team/app:1', 'r.example/team/app:2']);
    expect(first?.isActive).toBe(true);
    expect(first?.failures).toEqual([]);
    expect(events.texts('warning')).toEqual([expect.stringContaining('a proxy')]);
  });

  it('says that layers keep their compression where another one was forced', async () => {
    const tags = 'r.example/team/app:1';
    const { context: asked, events } = await contextForTest({ tags, fallback: 'engine', 'force-compression': 'true' });
    for (const target of asked.registries.flatMap(({ repositories }) => repositories))
      target.fail(new Error('a proxy'));
    await pushByEngine(asked, imageWith());
    expect(events.texts('warning')).toEqual([
      expect.stringContaining('a proxy'),
      'force-compression: docker pushes the layers in the compression that they have',
    ]);
  });

  it('leaves the first failure where the engine fails too', async () => {
    const { context: asked, events } = await context();
    const [first, second] = asked.registries.flatMap(({ repositories: destinations }) => destinations);
    const reason = new Error('a proxy');
    first?.fail(reason);
    second?.fail(registryError('auth'));
    const image = imageWith(['r.example/team/app:2']);
    await pushByEngine(asked, image);
    expect(image.pushed).toEqual(['r.example/team/app:1']);
    expect(first?.failures).toEqual([{ destination: 'r.example/team/app', error: reason }]);
    expect(events.texts('warning').join()).toContain('The fallback failed too: Push: the engine was refused too');
  });
});

describe('a login for the engine', () => {
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
    const own = {
      auths: { 'r.test:5000': { auth: 'old' }, 'a.test': { auth: 'a' } },
      currentContext: 'c',
      proxies: {},
    };
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
});
