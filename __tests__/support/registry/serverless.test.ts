/** The ten points of cloudflare/serverless-registry, each as a client meets it. */
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import {
  ask,
  closing,
  locationOf,
  manifestOf,
  openSession,
  putManifest,
  type Reply,
  sendBlob,
  sendChunk,
} from './ask.ts';
import { type Registry, startRegistry } from './server.ts';
import { sha256 } from './store.ts';

const REPO = 'team/app';
const MIN = 1000;
const EMPTY = Buffer.alloc(0);
let registry: Registry;

beforeAll(async () => {
  registry = await startRegistry({ profile: 'serverless', minChunk: MIN });
});
beforeEach(() => registry.reset());
afterAll(() => registry.close());

/** Opens a session and sends chunks of these lengths one after the other; gives the last reply and its Location. */
async function sendLengths(lengths: readonly number[]): Promise<{ reply: Reply; location: string; bytes: Buffer }> {
  const bytes = randomBytes(lengths.reduce((sum, length) => sum + length, 0));
  let location = await openSession(registry.url, REPO);
  let start = 0;
  let reply: Reply | undefined;
  for (const length of lengths) {
    reply = await sendChunk(location, bytes.subarray(start, start + length), start);
    if (reply.status !== 202) break;
    location = locationOf(reply, location);
    start += length;
  }
  return { reply: reply as Reply, location, bytes };
}

it('1: tells the lengths of chunks, a relative Location with _stateHash, and Range 0-0', async () => {
  const stock = await startRegistry({ profile: 'serverless' });
  const post = await ask('POST', `${stock.url}/v2/${REPO}/blobs/uploads/`);
  expect(post.status).toBe(202);
  expect(post.headers).toMatchObject({
    range: '0-0',
    'oci-chunk-min-length': '5242880',
    'oci-chunk-max-length': '100000000',
  });
  expect(post.headers.location).toMatch(/^\/v2\/team\/app\/blobs\/uploads\/[0-9a-f-]+\?_stateHash=[0-9a-f]+$/);
  await stock.close();
});

it('2: takes equal chunks with a smaller last one', async () => {
  const { location, bytes } = await sendLengths([MIN, MIN, 3]);
  const put = await ask('PUT', closing(location, sha256(bytes)), { body: EMPTY });
  expect(put.status).toBe(201);
  expect((await ask('GET', `${registry.url}/v2/${REPO}/blobs/${sha256(bytes)}`)).body).toEqual(bytes);
});

it.each([
  ['a growing chunk', [MIN, MIN + 1]],
  ['an equal small one', [MIN - 10, MIN - 10]],
  ['a small one that is not smaller than the small one before', [MIN, 10, 10]],
])('2: refuses %s with 416 and the right Location and Range', async (_name, lengths) => {
  const { reply, location } = await sendLengths(lengths);
  expect([reply.status, reply.code]).toEqual([416, 'RANGE_ERROR']);
  expect(locationOf(reply, location)).toBe(location);
  const taken = lengths.slice(0, -1).reduce((sum, length) => sum + length, 0);
  expect(reply.headers.range).toBe(`0-${taken - 1}`);
});

it('2: takes a second shrinking chunk and fails at the PUT', async () => {
  const { reply, location, bytes } = await sendLengths([MIN, MIN - 100, MIN - 200]);
  expect(reply.status).toBe(202);
  expect((await ask('PUT', closing(location, sha256(bytes)), { body: EMPTY })).status).toBe(500);
});

it('3: refuses a Content-Range with `bytes ` and one of a single byte', async () => {
  const location = await openSession(registry.url, REPO);
  const named = await sendChunk(location, randomBytes(MIN), 0, { headers: { 'Content-Range': `bytes 0-${MIN - 1}` } });
  expect(named.status).toBe(416);
  expect((await sendChunk(location, randomBytes(1), 0)).status).toBe(416);
  const bare = await ask('PATCH', location, { body: randomBytes(1) });
  expect([bare.status, bare.headers.range]).toEqual([202, '0-0']);
});

it('3: takes a small body without Content-Length and dies of a large one', async () => {
  const unsized = { 'Transfer-Encoding': 'chunked' };
  const small = await ask('PATCH', await openSession(registry.url, REPO), { body: randomBytes(MIN), headers: unsized });
  expect(small.status).toBe(202);
  const piece = Buffer.alloc(1024 * 1024);
  const body = Readable.from(
    Array.from({ length: 130 }, () => piece),
    { objectMode: false },
  );
  await expect(ask('PATCH', await openSession(registry.url, REPO), { body, headers: unsized })).rejects.toThrow();
});

it('4: changes the hash at each PATCH and answers an old one with the right Location and Range', async () => {
  const old = await openSession(registry.url, REPO);
  const first = await sendChunk(old, randomBytes(MIN), 0);
  expect(locationOf(first, old)).not.toBe(old);
  const late = await sendChunk(old, randomBytes(MIN), MIN);
  expect([late.status, late.headers.range]).toEqual([416, `0-${MIN - 1}`]);
  expect(late.headers.location).toBe(first.headers.location);
  expect((await sendChunk(locationOf(late, old), randomBytes(MIN), MIN)).status).toBe(202);
});

it('4: takes one of two PATCHes at once', async () => {
  const location = await openSession(registry.url, REPO);
  const body = randomBytes(MIN);
  const replies = await Promise.all([sendChunk(location, body, 0), sendChunk(location, body, 0)]);
  expect(replies.map((reply) => reply.status).sort()).toEqual([202, 416]);
});

it('4: a PATCH cut half-way changes nothing', async () => {
  const location = await openSession(registry.url, REPO);
  const bytes = randomBytes(400_000);
  await expect(sendChunk(location, bytes, 0, { cutAfter: 200_000 })).rejects.toThrow();
  const status = await ask('GET', location);
  expect([status.status, status.headers.range]).toEqual([204, '0--1']);
  expect((await sendChunk(location, bytes, 0)).status).toBe(202);
});

it('5: zero bytes read 0--1 on GET and 416, one byte 0-0', async () => {
  const location = await openSession(registry.url, REPO);
  expect((await ask('GET', location)).headers.range).toBe('0--1');
  expect((await sendChunk(location, randomBytes(MIN), 7)).headers.range).toBe('0--1');
  await ask('PATCH', location, { body: randomBytes(1) });
  expect((await ask('GET', location)).headers.range).toBe('0-0');
});

it('6: ignores the body of a PUT after a PATCH without a word', async () => {
  const { location, bytes } = await sendLengths([MIN, MIN]);
  const put = await ask('PUT', closing(location, sha256(bytes)), { body: randomBytes(500) });
  expect(put.status).toBe(201);
  expect((await ask('GET', `${registry.url}/v2/${REPO}/blobs/${sha256(bytes)}`)).body).toEqual(bytes);
});

it('6: a wrong digest is a 500 and kills the session though GET says 204', async () => {
  const { location, bytes } = await sendLengths([MIN]);
  expect((await ask('PUT', closing(location, sha256(EMPTY)), { body: EMPTY })).status).toBe(500);
  expect((await ask('GET', location)).status).toBe(204);
  expect((await ask('PUT', closing(location, sha256(bytes)), { body: EMPTY })).status).toBe(500);
  expect((await sendChunk(location, randomBytes(5), MIN)).status).toBe(500);
});

it('6: a repeated PUT and unknown sessions are 500, GET of one 404, DELETE 204', async () => {
  const bytes = randomBytes(10);
  const location = closing(await openSession(registry.url, REPO), sha256(bytes));
  expect((await ask('PUT', location, { body: bytes })).status).toBe(201);
  expect((await ask('PUT', location, { body: bytes })).status).toBe(500);
  expect((await sendChunk(location, bytes, 0)).status).toBe(500);
  expect((await ask('GET', location)).status).toBe(404);
  expect((await ask('DELETE', await openSession(registry.url, REPO))).status).toBe(204);
});

it('6: POST with digest is only an opening', async () => {
  const bytes = randomBytes(10);
  const post = await ask('POST', `${registry.url}/v2/${REPO}/blobs/uploads/?digest=${sha256(bytes)}`, { body: bytes });
  expect(post.status).toBe(202);
});

it('7: wants Content-Type and mediaType, names one unknown blob in the message, stores under a wrong digest', async () => {
  const config = await registry.addBlob(REPO, Buffer.from('{}'));
  const missing = sha256(randomBytes(3));
  const lost = await putManifest(registry.url, REPO, 'v1', manifestOf(config, [missing]));
  expect([lost.status, lost.code]).toEqual([400, 'BLOB_UNKNOWN']);
  expect(JSON.parse(lost.body.toString()).errors[0].message).toContain(missing);
  const silent = manifestOf(config, [], { mediaType: undefined });
  expect((await putManifest(registry.url, REPO, 'v1', silent)).code).toBe('MANIFEST_INVALID');
  const manifest = manifestOf(config, []);
  const untyped = await ask('PUT', `${registry.url}/v2/${REPO}/manifests/v1`, { body: manifest });
  expect(untyped.status).toBe(400);
  expect((await putManifest(registry.url, REPO, missing, manifest)).status).toBe(201);
  expect((await ask('GET', `${registry.url}/v2/${REPO}/manifests/${missing}`)).body).toEqual(manifest);
});

it('8: wants exactly Basic, and a push-only login gets 401 on GET of an upload', async () => {
  const basic = { username: 'robot', password: 'secret', may: ['push'] as const };
  const locked = await startRegistry({ profile: 'serverless', minChunk: MIN, auth: { basic } });
  const value = Buffer.from('robot:secret').toString('base64');
  const root = `${locked.url}/v2/`;
  const refused = await ask('GET', root);
  expect([refused.status, refused.headers['www-authenticate']]).toEqual([401, `Basic realm="${root}"`]);
  expect((await ask('GET', root, { headers: { Authorization: `basic ${value}` } })).status).toBe(401);
  const headers = { Authorization: `Basic ${value}` };
  expect((await ask('GET', root, { headers })).status).toBe(200);
  const location = await openSession(locked.url, REPO, headers);
  expect((await ask('GET', location, { headers })).status).toBe(401);
  expect((await ask('HEAD', `${root}${REPO}/blobs/${sha256(EMPTY)}`, { headers })).status).toBe(404);
  const lost = await sendChunk(location, randomBytes(MIN), 5, { headers });
  expect([lost.status, lost.headers.range]).toEqual([416, '0--1']);
  await locked.close();
});

it('9: HEAD of a mounted blob shows another size and digest', async () => {
  const bytes = randomBytes(500);
  const digest = await registry.addBlob('team/base', bytes);
  expect((await ask('POST', `${registry.url}/v2/${REPO}/blobs/uploads/?mount=${digest}&from=team/base`)).status).toBe(
    201,
  );
  const head = await ask('HEAD', `${registry.url}/v2/${REPO}/blobs/${digest}`);
  expect(head.status).toBe(200);
  expect(head.headers['content-length']).not.toBe('500');
  expect(head.headers['docker-content-digest']).not.toBe(digest);
  expect((await ask('GET', `${registry.url}/v2/${REPO}/blobs/${digest}`)).body).toEqual(bytes);
});

it('9: HEAD finds a blob of the fallback that the manifest PUT does not know', async () => {
  const bytes = randomBytes(30);
  registry.fallback.set(sha256(bytes), bytes);
  const head = await ask('HEAD', `${registry.url}/v2/${REPO}/blobs/${sha256(bytes)}`);
  expect([head.status, head.headers['content-length']]).toEqual([200, '30']);
  const config = await registry.addBlob(REPO, Buffer.from('{}'));
  const put = await putManifest(registry.url, REPO, 'v1', manifestOf(config, [sha256(bytes)]));
  expect(put.code).toBe('BLOB_UNKNOWN');
  await sendBlob(registry.url, REPO, bytes, MIN);
  expect((await putManifest(registry.url, REPO, 'v1', manifestOf(config, [sha256(bytes)]))).status).toBe(201);
});

it('10: cannot close a blob that is too large to be copied', async () => {
  const small = await startRegistry({ profile: 'serverless', minChunk: MIN, maxBlob: 2 * MIN });
  expect((await sendBlob(small.url, REPO, randomBytes(2 * MIN), MIN)).status).toBe(201);
  expect((await sendBlob(small.url, REPO, randomBytes(2 * MIN + 1), MIN)).status).toBe(500);
  await small.close();
});
