/** Each peculiarity of the profiles besides serverless, as a client meets it. */
import { randomBytes } from 'node:crypto';
import { afterEach, expect, it } from 'vitest';
import { ask, closing, locationOf, manifestOf, openSession, putManifest, sendBlob, sendChunk } from './ask.ts';
import { PROFILE_NAMES, TEST_CREDENTIALS } from './profiles.ts';
import { type Registry, type RegistryOptions, startRegistry } from './server.ts';
import { sha256 } from './store.ts';

const REPO = 'team/app';
const EMPTY = Buffer.alloc(0);
const started: Registry[] = [];

async function start(options: RegistryOptions): Promise<Registry> {
  const registry = await startRegistry(options);
  started.push(registry);
  return registry;
}

afterEach(async () => {
  await Promise.all(started.splice(0).map((registry) => registry.close()));
});

const close = (location: string, bytes: Buffer, body: Buffer = EMPTY) =>
  ask('PUT', closing(location, sha256(bytes)), { body });

/** A PATCH of 400 kB that is cut in the middle. */
const breakOff = (location: string) =>
  expect(sendChunk(location, randomBytes(400_000), 0, { cutAfter: 200_000 })).rejects.toThrow();

it.each(PROFILE_NAMES)('%s takes a small blob in one POST and one PUT', async (profile) => {
  const registry = await start({ profile, auth: 'none', refuseEvery: 1000 });
  const bytes = randomBytes(1000);
  const post = await ask('POST', `${registry.url}/v2/${REPO}/blobs/uploads/`);
  const cookie = post.headers['set-cookie']?.[0]?.split(';')[0] ?? 'none=0';
  const target = closing(locationOf(post, registry.url), sha256(bytes));
  expect((await ask('PUT', target, { body: bytes, headers: { Cookie: cookie } })).status).toBe(201);
  expect(registry.blobs(REPO)).toEqual([sha256(bytes)]);
});

it('limited: 413 as a page of nginx, before the body has come, and the connection closed', async () => {
  const registry = await start({ profile: 'limited', limit: 1_000_000 });
  const location = await openSession(registry.url, REPO);
  const refused = await sendChunk(location, randomBytes(8_000_000), 0);
  expect([refused.status, refused.headers.connection]).toEqual([413, 'close']);
  expect(refused.headers['content-type']).toBe('text/html');
  expect(refused.body.toString()).toContain('413 Request Entity Too Large');
  expect(registry.requests.at(-1)?.bytes).toBe(0);
  expect((await sendChunk(location, randomBytes(1_000_000), 0)).status).toBe(202);
  const unsized = { 'Transfer-Encoding': 'chunked' };
  await expect(ask('PATCH', location, { body: randomBytes(10), headers: unsized })).rejects.toThrow();
});

it('a limit stands in front of any profile', async () => {
  const registry = await start({ profile: 'quay', limit: 1000 });
  expect((await sendChunk(await openSession(registry.url, REPO), randomBytes(1001), 0)).status).toBe(413);
});

it('distribution2: absolute Location with _state, data out of order appended, 0 and 1 byte both 0-0', async () => {
  const registry = await start({ profile: 'distribution2' });
  const opened = await ask('POST', `${registry.url}/v2/${REPO}/blobs/uploads/`);
  expect(opened.headers.location).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/v2\/.*_state=/);
  const location = locationOf(opened, registry.url);
  expect((await ask('GET', location)).headers.range).toBe('0-0');
  const one = await sendChunk(location, randomBytes(1), 0);
  expect((await ask('GET', locationOf(one, location))).headers.range).toBe('0-0');
  const wrong = await sendChunk(locationOf(one, location), randomBytes(10), 900);
  expect([wrong.status, wrong.headers.range]).toEqual([202, '0-10']);
});

it('distribution2: after a broken PATCH GET, replay and DELETE give 404', async () => {
  const registry = await start({ profile: 'distribution2' });
  const location = await openSession(registry.url, REPO);
  await breakOff(location);
  expect((await ask('GET', location)).status).toBe(404);
  expect((await sendChunk(location, randomBytes(10), 0)).status).toBe(404);
  expect((await ask('DELETE', location)).status).toBe(404);
});

it('distribution2: an old _state gets 404, a PUT replayed after success too, POST with digest only opens', async () => {
  const registry = await start({ profile: 'distribution2' });
  const location = await openSession(registry.url, REPO);
  const bytes = randomBytes(10);
  const first = await sendChunk(location, bytes, 0);
  expect((await ask('GET', location)).code).toBe('BLOB_UPLOAD_INVALID');
  const last = locationOf(first, location);
  expect((await close(last, bytes)).status).toBe(201);
  expect((await close(last, bytes)).status).toBe(404);
  const post = await ask('POST', `${registry.url}/v2/${REPO}/blobs/uploads/?digest=${sha256(bytes)}`, { body: bytes });
  expect(post.status).toBe(202);
});

it('distribution2 and 3: unknown blobs of a manifest get 400 with the digest as detail; no referrers', async () => {
  for (const profile of ['distribution2', 'distribution3'] as const) {
    const registry = await start({ profile });
    const lost = sha256(randomBytes(3));
    const put = await putManifest(registry.url, REPO, 'v1', manifestOf(lost, []));
    expect([put.status, JSON.parse(put.body.toString()).errors[0].detail]).toEqual([400, lost]);
    expect((await ask('GET', `${registry.url}/v2/${REPO}/referrers/${lost}`)).status).toBe(404);
  }
});

it('distribution3: GET works without _state, 416 comes without Location or Range, a failed close cancels', async () => {
  const registry = await start({ profile: 'distribution3' });
  const location = await openSession(registry.url, REPO);
  await breakOff(location);
  const status = await ask('GET', location.replace(/\?.*/, ''));
  expect(status.status).toBe(204);
  const old = await sendChunk(location, randomBytes(10), 0);
  expect([old.status, old.code, old.headers.location]).toEqual([416, 'RANGE_INVALID', undefined]);
  const newest = locationOf(status, location);
  const wrong = await sendChunk(newest, randomBytes(10), 900_000);
  expect([wrong.status, wrong.headers.location, wrong.headers.range]).toEqual([416, undefined, undefined]);
  expect((await close(newest, EMPTY)).code).toBe('DIGEST_INVALID');
  expect((await ask('GET', newest)).status).toBe(404);
});

it('zot: a broken PATCH deletes the session, an empty one reads 0--1', async () => {
  const registry = await start({ profile: 'zot' });
  const location = await openSession(registry.url, REPO);
  expect((await ask('GET', location)).headers.range).toBe('0--1');
  await breakOff(location);
  expect((await ask('GET', location)).status).toBe(404);
  expect(registry.openSessions()).toBe(0);
});

it('gitea: a broken PATCH leaves 500 for ever', async () => {
  const registry = await start({ profile: 'gitea' });
  const location = await openSession(registry.url, REPO);
  await breakOff(location);
  const status = await ask('GET', location);
  expect([status.status, status.headers.range]).toEqual([204, '0-0']);
  for (let n = 0; n < 3; n += 1) expect((await sendChunk(location, randomBytes(10), 0)).status).toBe(500);
  expect((await close(location, EMPTY)).status).toBe(500);
});

it('gitea: a later PATCH needs Content-Range', async () => {
  const registry = await start({ profile: 'gitea' });
  const location = await openSession(registry.url, REPO);
  expect((await ask('PATCH', location, { body: randomBytes(10) })).status).toBe(202);
  expect((await ask('PATCH', location, { body: randomBytes(1) })).status).toBe(400);
  expect((await sendChunk(location, randomBytes(1), 10)).status).toBe(202);
});

it('quay: the status is bytes=0-N, one too many, without Location; a 416 one too many with it', async () => {
  const registry = await start({ profile: 'quay' });
  const location = await openSession(registry.url, REPO);
  expect((await sendChunk(location, randomBytes(100), 0)).headers.range).toBe('0-99');
  const status = await ask('GET', location);
  expect([status.status, status.headers.range, status.headers.location]).toEqual([204, 'bytes=0-100', undefined]);
  const wrong = await sendChunk(location, randomBytes(10), 500);
  expect([wrong.status, wrong.headers.range, locationOf(wrong, location)]).toEqual([416, '0-100', location]);
});

it('ecr: 201, a Range that sticks, parts within bounds, the last one in the PUT', async () => {
  const registry = await start({ profile: 'ecr', minChunk: 100, maxChunk: 200 });
  const bytes = randomBytes(450);
  const location = await openSession(registry.url, REPO);
  for (const start of [0, 200]) {
    const patched = await sendChunk(location, bytes.subarray(start, start + 200), start);
    expect([patched.status, patched.headers.range]).toEqual([201, '0-199']);
  }
  expect((await ask('GET', location)).headers.range).toBe('0-199');
  expect((await sendChunk(location, randomBytes(99), 400)).status).toBe(400);
  expect((await sendChunk(location, randomBytes(201), 400)).status).toBe(400);
  expect((await close(location, bytes.subarray(0, 400))).status).toBe(400);
  expect((await close(location, bytes, bytes.subarray(400))).status).toBe(201);
});

it('ecr: hangs up on a repository that nobody made', async () => {
  const registry = await start({ profile: 'ecr', madeRepositories: [REPO] });
  await expect(openSession(registry.url, 'team/other')).rejects.toThrow();
  expect(await openSession(registry.url, REPO)).toContain('/blobs/uploads/');
});

it('ghcr: a PATCH over the limit gets 416 "exceeds", a single PUT has no limit', async () => {
  const registry = await start({ profile: 'ghcr', maxChunk: 1000 });
  const location = await openSession(registry.url, REPO);
  const refused = await sendChunk(location, randomBytes(1001), 0);
  expect([refused.status, refused.code]).toEqual([416, 'REQUESTED_RANGE_NOT_SATISFIABLE']);
  expect(refused.body.toString()).toContain('exceeds the maximum');
  const bytes = randomBytes(5000);
  expect((await close(location, bytes, bytes)).status).toBe(201);
});

it('ghcr: a repeated PUT is unknown, and now and then takes the blob away', async () => {
  const registry = await start({ profile: 'ghcr', loseEvery: 2 });
  const bytes = randomBytes(10);
  const location = await openSession(registry.url, REPO);
  await close(location, bytes, bytes);
  expect((await close(location, bytes, bytes)).status).toBe(404);
  expect(registry.blobs(REPO)).toHaveLength(1);
  expect((await close(location, bytes, bytes)).status).toBe(404);
  expect(registry.blobs(REPO)).toHaveLength(0);
});

it('gar: no PATCH at all', async () => {
  const registry = await start({ profile: 'gar' });
  const refused = await sendChunk(await openSession(registry.url, REPO), randomBytes(10), 0);
  expect([refused.status, refused.code]).toEqual([400, 'UNSUPPORTED']);
});

it('acr: wants Content-Length and a raw range', async () => {
  const registry = await start({ profile: 'acr' });
  const location = await openSession(registry.url, REPO);
  const body = randomBytes(10);
  expect((await ask('PATCH', location, { body, headers: { 'Transfer-Encoding': 'chunked' } })).status).toBe(411);
  expect((await sendChunk(location, body, 0, { headers: { 'Content-Range': 'bytes 0-9/*' } })).status).toBe(400);
  expect((await sendChunk(location, body, 0)).status).toBe(202);
});

it('hub: every so-many-th request gets 429 with Retry-After', async () => {
  const registry = await start({ profile: 'hub', auth: 'none', refuseEvery: 3 });
  const replies = [];
  for (let n = 0; n < 6; n += 1) replies.push(await ask('GET', `${registry.url}/v2/`));
  expect(replies.map((reply) => reply.status)).toEqual([200, 200, 429, 200, 200, 429]);
  expect([replies[2]?.code, replies[2]?.headers['retry-after']]).toEqual(['TOOMANYREQUESTS', '1']);
});

it('hub: a mount needs a token with pull on the source', async () => {
  const registry = await start({ profile: 'hub', refuseEvery: 1000 });
  const digest = await registry.addBlob('team/base', randomBytes(10));
  const tokenFor = async (...scopes: string[]) => {
    const login = Buffer.from(`${TEST_CREDENTIALS.username}:${TEST_CREDENTIALS.password}`).toString('base64');
    const query = new URLSearchParams(scopes.map((scope): [string, string] => ['scope', scope]));
    const reply = await ask('GET', `${registry.url}/token?${query}`, { headers: { Authorization: `Basic ${login}` } });
    return { Authorization: `Bearer ${JSON.parse(reply.body.toString()).token}` };
  };
  const target = `${registry.url}/v2/${REPO}/blobs/uploads/?mount=${digest}&from=team/base`;
  const one = await tokenFor(`repository:${REPO}:pull,push`);
  const refused = await ask('POST', target, { headers: one });
  expect(refused.status).toBe(401);
  expect(refused.headers['www-authenticate']).toContain(`repository:${REPO}:pull,push repository:team/base:pull`);
  const both = await tokenFor(`repository:${REPO}:pull,push`, 'repository:team/base:pull');
  expect((await ask('POST', target, { headers: both })).status).toBe(201);
});

it('replicas: a session is found only with its cookie', async () => {
  const registry = await start({ profile: 'replicas' });
  const posts = [0, 1].map(() => ask('POST', `${registry.url}/v2/${REPO}/blobs/uploads/`));
  const [mine, other] = await Promise.all(posts);
  if (mine === undefined || other === undefined) throw new Error('no replies');
  const cookieOf = (reply: typeof mine) => ({ Cookie: reply.headers['set-cookie']?.[0]?.split(';')[0] ?? '' });
  const location = locationOf(mine, registry.url);
  const body = randomBytes(10);
  expect((await sendChunk(location, body, 0)).status).toBe(404);
  expect((await sendChunk(location, body, 0, { headers: cookieOf(other) })).status).toBe(404);
  expect((await sendChunk(location, body, 0, { headers: cookieOf(mine) })).status).toBe(202);
});

it('equalparts: parts of unequal size fail at the close', async () => {
  const registry = await start({ profile: 'equalparts' });
  expect((await sendBlob(registry.url, REPO, randomBytes(250), 100)).status).toBe(201);
  const bytes = randomBytes(150);
  const location = await openSession(registry.url, REPO);
  await sendChunk(location, bytes.subarray(0, 50), 0);
  await sendChunk(location, bytes.subarray(50), 50);
  expect((await close(location, bytes)).status).toBe(500);
});
