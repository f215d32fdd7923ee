/** Passwords and tokens as clients meet them. */
import { afterEach, expect, it, vi } from 'vitest';
import { ask } from './ask.ts';
import { type Registry, type RegistryOptions, startRegistry } from './server.ts';

const REPO = 'team/app';
const login = { username: 'robot', password: 'se:cret' };
const basic = { Authorization: `Basic ${Buffer.from('robot:se:cret').toString('base64')}` };
let registry: Registry | undefined;

async function start(auth: RegistryOptions['auth'], profile: RegistryOptions['profile'] = 'plain'): Promise<string> {
  registry = await startRegistry({ ...(auth === undefined ? {} : { auth }), profile });
  return registry.url;
}

const bearerOf = (body: Buffer): Record<string, string> => {
  const { token, access_token } = JSON.parse(body.toString());
  return { Authorization: `Bearer ${token ?? access_token}` };
};

const scoped = (url: string, actions: string) =>
  `${url}/token?service=registry.test&scope=repository:${REPO}:${actions}`;

afterEach(async () => {
  vi.useRealTimers();
  await registry?.close();
});

it('asks for a password and takes the right one, in any case of the scheme', async () => {
  const url = await start({ basic: login });
  const refused = await ask('GET', `${url}/v2/`);
  expect([refused.status, refused.headers['www-authenticate']?.split(' ')[0]]).toEqual([401, 'Basic']);
  expect((await ask('GET', `${url}/v2/`, { headers: basic })).status).toBe(200);
  const folded = { Authorization: basic.Authorization.replace('Basic', 'basic') };
  expect((await ask('GET', `${url}/v2/`, { headers: folded })).status).toBe(200);
  expect((await ask('GET', `${url}/v2/`, { headers: { Authorization: 'Basic d3Jvbmc6d3Jvbmc=' } })).status).toBe(401);
  expect(registry?.auth.unauthorized).toBe(2);
});

it('challenges with realm, service and scope, and takes a token that is good for them', async () => {
  const url = await start({ bearer: login });
  const target = `${url}/v2/${REPO}/blobs/uploads/`;
  const refused = await ask('POST', target);
  expect(refused.headers['www-authenticate']).toBe(
    `Bearer realm="${url}/token",service="registry.test",scope="repository:${REPO}:pull,push"`,
  );
  const token = await ask('GET', scoped(url, 'pull,push'), { headers: basic });
  expect(JSON.parse(token.body.toString()).expires_in).toBe(60);
  expect((await ask('POST', target, { headers: bearerOf(token.body) })).status).toBe(202);
  expect(registry?.auth).toMatchObject({ unauthorized: 1, tokens: 1, tokenRequests: 1 });
});

it('refuses a token of too small a scope, and wrong passwords at the token endpoint', async () => {
  const url = await start({ bearer: login });
  const token = await ask('GET', scoped(url, 'pull'), { headers: basic });
  const refused = await ask('POST', `${url}/v2/${REPO}/blobs/uploads/`, { headers: bearerOf(token.body) });
  expect([refused.status, refused.headers['www-authenticate']?.includes('insufficient_scope')]).toEqual([401, true]);
  const wrong = { Authorization: 'Basic d3Jvbmc6d3Jvbmc=' };
  expect((await ask('GET', scoped(url, 'pull'), { headers: wrong })).status).toBe(401);
});

it('gives the anonymous what they may have', async () => {
  const url = await start({ bearer: { ...login, anonymous: ['pull'] } });
  const token = await ask('GET', scoped(url, 'pull,push'));
  const headers = bearerOf(token.body);
  expect((await ask('GET', `${url}/v2/${REPO}/tags/list`, { headers })).status).toBe(404);
  expect((await ask('POST', `${url}/v2/${REPO}/blobs/uploads/`, { headers })).status).toBe(401);
});

it('takes a refresh token by POST', async () => {
  const url = await start({ bearer: { ...login, refreshToken: 'long-lived' } });
  const form = (token: string) =>
    Buffer.from(
      new URLSearchParams({
        grant_type: 'refresh_token',
        refresh_token: token,
        service: 'registry.test',
        client_id: 'test',
        scope: `repository:${REPO}:pull,push`,
      }).toString(),
    );
  const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
  expect((await ask('POST', `${url}/token`, { body: form('other'), headers })).status).toBe(401);
  const token = await ask('POST', `${url}/token`, { body: form('long-lived'), headers });
  expect(JSON.parse(token.body.toString()).access_token).toBeTypeOf('string');
  expect((await ask('POST', `${url}/v2/${REPO}/blobs/uploads/`, { headers: bearerOf(token.body) })).status).toBe(202);
});

it('forgets a token when its time is over and counts its refusals', async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  const url = await start({ bearer: { ...login, lifetimeSeconds: 5 } });
  const headers = bearerOf((await ask('GET', scoped(url, 'pull,push'), { headers: basic })).body);
  expect((await ask('POST', `${url}/v2/${REPO}/blobs/uploads/`, { headers })).status).toBe(202);
  vi.setSystemTime(Date.now() + 5_001);
  const refused = await ask('POST', `${url}/v2/${REPO}/blobs/uploads/`, { headers });
  expect([refused.status, refused.headers['www-authenticate']?.includes('invalid_token')]).toEqual([401, true]);
  expect([...(registry?.auth.unauthorizedByToken.values() ?? [])]).toEqual([1]);
});

it('gitlab: tokens are short', async () => {
  const url = await start(undefined, 'gitlab');
  const token = await ask('GET', scoped(url, 'pull'));
  expect(JSON.parse(token.body.toString()).expires_in).toBe(5);
});
