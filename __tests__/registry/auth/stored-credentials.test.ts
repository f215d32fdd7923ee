import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { resolveCredentials } from '../../../src/registry/auth/stored-credentials.ts';

const base64 = (text: string): string => Buffer.from(text).toString('base64');

let home: string;
const path = process.env.PATH;

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'credentials-'));
  process.env.PATH = `${join(home, 'bin')}:${path}`;
});
afterEach(async () => {
  process.env.PATH = path;
  await rm(home, { recursive: true });
});

async function write(name: string, content: unknown): Promise<string> {
  const file = join(home, name);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, typeof content === 'string' ? content : JSON.stringify(content));
  return file;
}

const docker = (content: unknown) => write('.docker/config.json', content);

/** A credential helper in shell; it has what it was asked in $server. */
async function helper(name: string, script: string): Promise<void> {
  await chmod(await write(`bin/docker-credential-${name}`, `#!/bin/sh\nread -r server\n${script}\n`), 0o755);
}

const search = (registry: string, more: object = {}, env: NodeJS.ProcessEnv = {}) =>
  resolveCredentials({
    registry,
    env: { HOME: home, PATH: process.env.PATH, XDG_RUNTIME_DIR: join(home, 'run'), ...env },
    ...more,
  });

const find = async (...query: Parameters<typeof search>) => (await search(...query)).credentials;

/** What could not be used on the way. */
const problems = async (...query: Parameters<typeof search>) => (await search(...query)).problems.join('; ');

describe('inputs', () => {
  it('come before everything else', async () => {
    await docker({ auths: { 'r.test': { auth: base64('file:file') } } });
    expect(await find('r.test', { username: 'bob', password: 'secret' })).toEqual({
      source: 'the inputs username and password',
      username: 'bob',
      password: 'secret',
    });
    expect(await find('r.test', { username: '<token>', password: 'secret' })).toMatchObject({
      identityToken: 'secret',
    });
  });

  it('come in pairs', async () => {
    await expect(find('r.test', { username: 'bob' })).rejects.toThrow('the input username is set without password');
    await expect(find('r.test', { password: 'x' })).rejects.toThrow('the input password is set without username');
  });

  it('that are empty strings are not set', async () => {
    expect(await find('r.test', { username: '', password: '' })).toBeUndefined();
  });

  it('are announced as secrets, in the form in which they are sent too', async () => {
    const secrets: string[] = [];
    await find('r.test', { username: 'bob', password: 'pässword', onSecret: (secret: string) => secrets.push(secret) });
    expect(secrets).toEqual(['pässword', base64('bob:pässword')]);
  });
});

describe("Docker's config file", () => {
  it('has a password with colons, and old padding', async () => {
    const file = await docker({ auths: { 'r.test:5000': { auth: base64('bob:a:b\0\0') } } });
    expect(await find('r.test:5000')).toEqual({ source: file, username: 'bob', password: 'a:b' });
  });

  it('lies where DOCKER_CONFIG says', async () => {
    await write('elsewhere/config.json', { auths: { 'r.test': { username: 'u', password: 'p' } } });
    expect(await find('r.test', {}, { DOCKER_CONFIG: join(home, 'elsewhere') })).toMatchObject({ username: 'u' });
  });

  it('may be the content of DOCKER_AUTH_CONFIG', async () => {
    const config = JSON.stringify({ auths: { 'r.test': { auth: base64('env:p') } } });
    expect(await find('r.test', {}, { DOCKER_AUTH_CONFIG: config })).toMatchObject({ username: 'env' });
    expect(await problems('r.test', {}, { DOCKER_AUTH_CONFIG: '{' })).toContain('DOCKER_AUTH_CONFIG is not valid JSON');
  });

  it('has identity and registry tokens', async () => {
    await docker({
      auths: {
        'i.test': { auth: base64('00000000:'), identitytoken: 'id' },
        'r.test': { registrytoken: 'reg' },
        't.test': { auth: base64('<token>:tok') },
      },
    });
    expect(await find('i.test')).toMatchObject({ identityToken: 'id' });
    expect(await find('r.test')).toMatchObject({ registryToken: 'reg' });
    expect(await find('t.test')).toMatchObject({ identityToken: 'tok' });
  });

  it.each([
    ['https://r.test/v1/', 'r.test'],
    ['http://r.test/v2', 'r.test'],
    ['https://r.test:8443', 'r.test:8443'],
    ['R.Test', 'r.test'],
    ['https://index.docker.io/v1/', 'docker.io'],
    ['https://index.docker.io/v1/', 'registry-1.docker.io'],
    ['registry.hub.docker.com', 'index.docker.io'],
    ['docker.io', 'registry-1.docker.io'],
  ])('the key %s is for %s', async (key, registry) => {
    await docker({ auths: { [key]: { auth: base64('bob:x') } } });
    expect(await find(registry)).toMatchObject({ username: 'bob' });
  });

  it.each([
    ['r.test', 'r.test:5000'],
    ['r.test:5000', 'r.test'],
    ['r.test', 'my-r.test'],
    ['r.test', 'r.test.evil.org'],
    ['r.test.evil.org', 'r.test'],
    ['https://r.test.evil.org/r.test/v1/', 'r.test'],
    ['docker.io', 'r.test'],
  ])('the key %s is not for %s', async (key, registry) => {
    await docker({ auths: { [key]: { auth: base64('bob:x') } } });
    expect(await find(registry)).toBeUndefined();
  });

  it('prefers the key that is written exactly so', async () => {
    await docker({
      auths: { 'https://r.test/v1/': { auth: base64('old:x') }, 'r.test': { auth: base64('new:x') } },
    });
    expect(await find('r.test')).toMatchObject({ username: 'new' });
  });

  it('may be missing, empty, or without this registry', async () => {
    expect(await find('r.test')).toBeUndefined();
    await docker('');
    expect(await find('r.test')).toBeUndefined();
    await docker({ auths: { 'r.test': {} }, HttpHeaders: {} });
    expect(await find('r.test')).toBeUndefined();
  });

  it.each([
    ['{ "auths": { "r.test": { "auth": "c2VjcmV0', 'is not valid JSON'],
    ['[]', 'is not a JSON object'],
    ['{"auths": []}', 'has an "auths"'],
    ['{"auths": {"r.test": "c2VjcmV0"}}', 'has an "auths"'],
    ['{"auths": {"r.test": {"auth": "c2VjcmV0"}}}', 'has an "auth" for r.test that is not base64 of user:password'],
    ['{"auths": {"r.test": {"auth": "%%%c2VjcmV0"}}}', 'has an "auth" for r.test that is not base64 of user:password'],
    ['{"auths": {"r.test": {"auth": 7}}}', 'has an "auth" for r.test that is not base64 of user:password'],
    ['{"credHelpers": {"r.test": 7}}', 'has a "credHelpers"'],
    ['{"credsStore": {}}', 'has a "credsStore"'],
  ])('that is broken is named, gives nothing away, and does not end the search: %s', async (text, words) => {
    const file = await docker(text);
    await write('.config/containers/auth.json', { auths: { 'r.test': { auth: base64('next:x') } } });
    const { credentials, problems } = await search('r.test');
    expect(credentials).toMatchObject({ username: 'next' });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(`${file} ${words}`);
    expect(problems[0]).not.toContain('c2VjcmV0');
  });

  it.each([
    ['null entries', { auths: { 'a.test': null, 'r.test': { auth: base64('bob:x') } } }],
    [
      'entries of other registries that are no base64',
      { auths: { 'a.test': { auth: '%%%' }, 'r.test': { auth: base64('bob:x') } } },
    ],
    [
      'null in place of the lists',
      { auths: { 'r.test': { auth: base64('bob:x') } }, credHelpers: null, credsStore: null },
    ],
    ['a byte order mark', `\uFEFF${JSON.stringify({ auths: { 'r.test': { auth: base64('bob:x') } } })}`],
    [
      'an undecodable auth beside a user name',
      { auths: { 'r.test': { auth: '%%%', username: 'bob', password: 'x' } } },
    ],
  ])('with %s is read', async (_, content) => {
    await docker(content);
    expect(await find('r.test')).toMatchObject({ username: 'bob', password: 'x' });
  });

  it('that can not be read is named', async () => {
    await mkdir(join(home, '.docker/config.json'), { recursive: true });
    expect(await problems('r.test')).toContain('can not be read');
  });
});

describe("docker/login-action's scope", () => {
  const scoped = (place: string) =>
    write(`.docker/buildx/config/${place}/config.json`, { auths: { 'r.test': { auth: base64(`${place}:x`) } } });

  it('comes before the config file, the most specific first', async () => {
    await docker({ auths: { 'r.test': { auth: base64('file:x') } } });
    const user = async (...repositories: string[]) => (await find('r.test', { repositories }))?.username;
    const places = ['r.test', 'r.test@push', 'r.test/team', 'r.test/team/app', 'r.test/team/app@push'];
    for (const place of places) {
      await scoped(place);
      expect(await user('team/app')).toBe(place);
    }
    expect(await user('team/other')).toBe('r.test/team');
    expect(await user('other')).toBe('r.test@push');
    expect(await user('team/app', 'team/other')).toBe('r.test/team');
    await scoped('r.test/team/app@pull');
    expect(await user('team/app')).toBe('r.test/team/app@push');
  });

  it('lies where BUILDX_CONFIG or DOCKER_CONFIG say; Docker Hub has the name of its API', async () => {
    const hub = { auths: { 'https://index.docker.io/v1/': { auth: base64('hub:x') } } };
    await write('bx/config/registry-1.docker.io/team/app/config.json', hub);
    const query = { repositories: ['team/app'] };
    expect(await find('docker.io', query)).toBeUndefined();
    expect(await find('docker.io', query, { BUILDX_CONFIG: join(home, 'bx') })).toMatchObject({ username: 'hub' });
    await write('dc/buildx/config/registry-1.docker.io@push/config.json', hub);
    expect(await find('docker.io', query, { DOCKER_CONFIG: join(home, 'dc') })).toMatchObject({ username: 'hub' });
  });
});

describe('credential helpers', () => {
  it('are asked by the name of the server, the one of the host before the store', async () => {
    await helper('cloud', 'echo "{\\"Username\\":\\"$server\\",\\"Secret\\":\\"of cloud\\"}"');
    await helper('store', 'echo "{\\"Username\\":\\"$server\\",\\"Secret\\":\\"of store\\"}"');
    await docker({ credsStore: 'store', credHelpers: { 'r.test': 'cloud' } });
    expect(await find('r.test')).toEqual({
      source: 'docker-credential-cloud',
      username: 'r.test',
      password: 'of cloud',
    });
    expect(await find('s.test:5000')).toMatchObject({ username: 's.test:5000', password: 'of store' });
    expect(await find('registry-1.docker.io')).toMatchObject({ username: 'https://index.docker.io/v1/' });
  });

  it('may give an identity token', async () => {
    await helper('cloud', 'echo \'{"ServerURL":"x","Username":"<token>","Secret":"id"}\'');
    await docker({ credHelpers: { 'r.test': 'cloud' } });
    expect(await find('r.test')).toEqual({ source: 'docker-credential-cloud', identityToken: 'id' });
  });

  it('that know nothing leave it to the file', async () => {
    await helper('store', 'echo "credentials not found in native keychain"; exit 1');
    await docker({ credsStore: 'store', auths: { 'r.test': { auth: base64('bob:x') }, 's.test': {} } });
    expect(await find('r.test')).toMatchObject({ username: 'bob' });
    expect(await find('s.test')).toBeUndefined();
  });

  it.each([
    ['missing', undefined, /docker-credential-x is not installed/],
    ['failing', 'echo "no session"; exit 3', /docker-credential-x failed with exit code 3: no session/],
    ['silent', 'true', /docker-credential-x did not answer in JSON/],
    ['strange', 'echo "{\\"Secret\\":1}"', /docker-credential-x answered without Username and Secret/],
  ])('that are %s are named, and the search goes on', async (_, script, words) => {
    if (script !== undefined) await helper('x', script);
    await docker({ credHelpers: { 'r.test': 'x' }, auths: { 'r.test': { auth: base64('file:x') } } });
    const { credentials, problems } = await search('r.test');
    expect(credentials).toMatchObject({ username: 'file' });
    expect(problems).toEqual([expect.stringMatching(words)]);
  });

  it.each([
    ['answer', 'echo \'{"Username":"bob","Secret":"x"}\'', { username: 'bob' }],
    ['know nothing', 'echo "credentials not found in native keychain"; exit 1', undefined],
    ['know nothing, and say it late', 'exec <&-; sleep 0.1; echo "credentials not found in x"; exit 1', undefined],
  ])('that do not read which server is meant, and %s', async (_, script, wanted) => {
    await chmod(await write('bin/docker-credential-deaf', `#!/bin/sh\n${script}\n`), 0o755);
    await docker({ credsStore: 'deaf' });
    for (let n = 0; n < 10; n++) {
      const found = await search('r.test');
      if (wanted === undefined) expect(found).toEqual({ credentials: undefined, problems: [] });
      else expect(found.credentials).toMatchObject(wanted);
    }
  });

  it('that are no name of a program are not run', async () => {
    await docker({ credHelpers: { 'r.test': '../../bin/x --flag' } });
    expect(await problems('r.test')).toContain('is no name of a program');
  });
});

describe("Podman's auth file", () => {
  const auths = (...keys: string[]) => ({
    auths: Object.fromEntries(keys.map((key) => [key, { auth: base64(`${key}:x`) }])),
  });
  const nameIn = async (repositories: string[]) => (await find('r.test', { repositories }))?.username;

  it('lies in the runtime folder, else among the configuration; a named one stands alone; Docker comes first', async () => {
    await write('.config/containers/auth.json', { auths: { 'r.test': { auth: base64('config:x') } } });
    expect(await find('r.test')).toMatchObject({ username: 'config' });
    await write('run/containers/auth.json', { auths: { 'r.test': { auth: base64('runtime:x') } } });
    expect(await find('r.test')).toMatchObject({ username: 'runtime' });
    const named = await write('named.json', { auths: { 'r.test': { auth: base64('named:x') } } });
    expect(await find('r.test', {}, { REGISTRY_AUTH_FILE: named })).toMatchObject({ username: 'named' });
    expect(await find('r.test', {}, { REGISTRY_AUTH_FILE: join(home, 'no') })).toBeUndefined();
    await docker({ auths: { 'r.test': { auth: base64('docker:x') } } });
    expect(await find('r.test', {}, { REGISTRY_AUTH_FILE: named })).toMatchObject({ username: 'docker' });
  });

  it('has keys for namespaces: the most specific counts', async () => {
    await write('run/containers/auth.json', auths('r.test', 'r.test/team', 'r.test/team/app', 'r.test/tea'));
    expect(await nameIn(['team/app'])).toBe('r.test/team/app');
    expect(await nameIn(['team/app/web'])).toBe('r.test/team/app');
    expect(await nameIn(['team/other'])).toBe('r.test/team');
    expect(await nameIn(['teams/app'])).toBe('r.test');
    expect(await nameIn([])).toBe('r.test');
  });

  it('for several repositories: what they have in common', async () => {
    await write('run/containers/auth.json', auths('r.test', 'r.test/team', 'r.test/team/app'));
    expect(await nameIn(['team/app', 'team/web'])).toBe('r.test/team');
    expect(await nameIn(['team/app', 'other/app'])).toBe('r.test');
    expect(await nameIn(['team/app', 'team'])).toBe('r.test/team');
  });
});
