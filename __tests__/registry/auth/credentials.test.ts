import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CredentialsError, resolveCredentials } from '../../../src/registry/auth/credentials.ts';

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

const find = (registry: string, more: object = {}, env: NodeJS.ProcessEnv = {}) =>
  resolveCredentials({
    registry,
    env: { HOME: home, PATH: process.env.PATH, XDG_RUNTIME_DIR: join(home, 'run'), ...env },
    ...more,
  });

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
    await expect(find('r.test', {}, { DOCKER_AUTH_CONFIG: '{' })).rejects.toThrow(
      'DOCKER_AUTH_CONFIG is not valid JSON',
    );
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
  ])('that is broken is an error that names it and gives nothing away: %s', async (text, words) => {
    const file = await docker(text);
    const error = await find('r.test').then(
      () => expect.unreachable(),
      (caught: unknown) => caught as CredentialsError,
    );
    expect(error).toBeInstanceOf(CredentialsError);
    expect(error.message).toContain(`${file} ${words}`);
    expect(error.remedy).toContain('set username and password');
    expect(`${error.message}${error.stack}${String(error.cause)}`).not.toContain('c2VjcmV0');
  });

  it('that can not be read is an error that names it', async () => {
    await mkdir(join(home, '.docker/config.json'), { recursive: true });
    await expect(find('r.test')).rejects.toThrow('can not be read (EISDIR)');
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
    ['missing', undefined, /docker-credential-x could not be run/],
    ['failing', 'echo "no session"; exit 3', /docker-credential-x failed with exit code 3: no session/],
    ['silent', 'true', /docker-credential-x did not answer in JSON/],
    ['strange', 'echo "{\\"Secret\\":1}"', /docker-credential-x answered without Username and Secret/],
  ])('that are %s are an error that names them', async (_, script, words) => {
    if (script !== undefined) await helper('x', script);
    await docker({ credHelpers: { 'r.test': 'x' } });
    await expect(find('r.test')).rejects.toThrow(words);
  });

  it('that are no name of a program are not run', async () => {
    await docker({ credHelpers: { 'r.test': '../../bin/x --flag' } });
    await expect(find('r.test')).rejects.toThrow('is no name of a program');
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
