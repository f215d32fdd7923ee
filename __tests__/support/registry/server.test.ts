import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ask, closing, locationOf, manifestOf, openSession, putManifest, sendBlob, sendChunk } from './ask.ts';
import { type Registry, startRegistry } from './server.ts';
import { sha256 } from './store.ts';

const REPO = 'team/app';
const EMPTY = Buffer.alloc(0);
let registry: Registry;

beforeAll(async () => {
  registry = await startRegistry();
});
beforeEach(() => registry.reset());
afterAll(() => registry.close());

const at = (path: string): string => `${registry.url}/v2/${REPO}/${path}`;

describe('blobs', () => {
  it('takes a blob by POST and PUT, and gives it back whole and in ranges', async () => {
    const bytes = randomBytes(1000);
    const digest = sha256(bytes);
    expect((await ask('HEAD', at(`blobs/${digest}`))).status).toBe(404);
    const put = await ask('PUT', closing(await openSession(registry.url, REPO), digest), { body: bytes });
    expect(put.status).toBe(201);
    expect(put.headers['docker-content-digest']).toBe(digest);
    const head = await ask('HEAD', at(`blobs/${digest}`));
    expect([head.status, head.headers['content-length']]).toEqual([200, '1000']);
    expect((await ask('GET', at(`blobs/${digest}`))).body).toEqual(bytes);
    const range = await ask('GET', at(`blobs/${digest}`), { headers: { Range: 'bytes=10-19' } });
    expect([range.status, range.headers['content-range']]).toEqual([206, 'bytes 10-19/1000']);
    expect(range.body).toEqual(bytes.subarray(10, 20));
    const tail = await ask('GET', at(`blobs/${digest}`), { headers: { Range: 'bytes=-5' } });
    expect(tail.body).toEqual(bytes.subarray(995));
    expect((await ask('GET', at(`blobs/${digest}`), { headers: { Range: 'bytes=1000-' } })).status).toBe(416);
  });

  it('takes the empty blob', async () => {
    const digest = sha256(EMPTY);
    const put = await ask('PUT', closing(await openSession(registry.url, REPO), digest), { body: EMPTY });
    expect(put.status).toBe(201);
    const got = await ask('GET', at(`blobs/${digest}`));
    expect([got.status, got.body.length]).toEqual([200, 0]);
  });

  it('takes a blob in one POST with digest', async () => {
    const bytes = randomBytes(50);
    const post = await ask('POST', at(`blobs/uploads/?digest=${sha256(bytes)}`), { body: bytes });
    expect(post.status).toBe(201);
    expect(registry.blobs(REPO)).toEqual([sha256(bytes)]);
    expect(registry.openSessions()).toBe(0);
  });

  it('takes chunks in order, the last one in the PUT, and shows its progress', async () => {
    const bytes = randomBytes(250);
    const opened = await openSession(registry.url, REPO);
    expect((await ask('GET', opened)).headers.range).toBe('0-0');
    const first = await sendChunk(opened, bytes.subarray(0, 100), 0);
    expect([first.status, first.headers.range]).toEqual([202, '0-99']);
    const second = await sendChunk(locationOf(first, opened), bytes.subarray(100, 200), 100);
    expect((await ask('GET', opened)).headers.range).toBe('0-199');
    const last = closing(locationOf(second, opened), sha256(bytes));
    const put = await ask('PUT', last, { body: bytes.subarray(200), headers: { 'Content-Range': '200-249' } });
    expect(put.status).toBe(201);
    expect((await ask('GET', at(`blobs/${sha256(bytes)}`))).body).toEqual(bytes);
  });

  it('refuses a chunk out of order with 416 and says where to go on', async () => {
    const opened = await openSession(registry.url, REPO);
    await sendChunk(opened, randomBytes(100), 0);
    const wrong = await sendChunk(opened, randomBytes(100), 300);
    expect([wrong.status, wrong.headers.range]).toEqual([416, '0-99']);
    expect(locationOf(wrong, opened)).toBe(opened);
  });

  it('keeps what came of a broken PATCH and goes on from there', async () => {
    const bytes = randomBytes(300_000);
    const opened = await openSession(registry.url, REPO);
    await expect(sendChunk(opened, bytes, 0, { cutAfter: 120_000 })).rejects.toThrow();
    const status = await ask('GET', opened);
    const held = Number(status.headers.range?.split('-')[1]) + 1;
    expect(held).toBeGreaterThan(0);
    expect(held).toBeLessThanOrEqual(120_000);
    expect((await sendChunk(opened, bytes.subarray(held), held)).status).toBe(202);
    expect((await ask('PUT', closing(opened, sha256(bytes)), { body: EMPTY })).status).toBe(201);
    expect(registry.requests.some((request) => request.broken)).toBe(true);
  });

  it('refuses a wrong digest and ends the session', async () => {
    const opened = await openSession(registry.url, REPO);
    const put = await ask('PUT', closing(opened, sha256(EMPTY)), { body: randomBytes(10) });
    expect([put.status, put.code]).toEqual([400, 'DIGEST_INVALID']);
    expect([(await ask('GET', opened)).status, registry.openSessions()]).toEqual([404, 0]);
    const second = await openSession(registry.url, REPO);
    expect((await ask('PUT', second, { body: EMPTY })).code).toBe('DIGEST_INVALID');
  });

  it('cancels a session', async () => {
    const opened = await openSession(registry.url, REPO);
    expect((await ask('DELETE', opened)).status).toBe(204);
    const gone = await sendChunk(opened, randomBytes(5), 0);
    expect([gone.status, gone.code]).toEqual([404, 'BLOB_UPLOAD_UNKNOWN']);
  });

  it('mounts a blob that another repository has, and opens a session otherwise', async () => {
    const digest = await registry.addBlob('team/base', randomBytes(20));
    const mount = await ask('POST', at(`blobs/uploads/?mount=${digest}&from=team/base`));
    expect([mount.status, mount.headers.location]).toEqual([201, `/v2/${REPO}/blobs/${digest}`]);
    expect((await ask('HEAD', at(`blobs/${digest}`))).headers['content-length']).toBe('20');
    const other = await ask('POST', at(`blobs/uploads/?mount=${digest}&from=team/none`));
    expect(other.status).toBe(202);
    expect(registry.openSessions()).toBe(1);
  });

  it('deletes a blob', async () => {
    const digest = await registry.addBlob(REPO, randomBytes(20));
    expect((await ask('DELETE', at(`blobs/${digest}`))).status).toBe(202);
    expect((await ask('DELETE', at(`blobs/${digest}`))).code).toBe('BLOB_UNKNOWN');
  });

  it('refuses names that are none and paths that are no endpoint', async () => {
    expect((await ask('POST', `${registry.url}/v2/Team/App/blobs/uploads/`)).code).toBe('NAME_INVALID');
    expect((await ask('GET', `${registry.url}/v1/`)).status).toBe(404);
    expect((await ask('GET', `${registry.url}/v2/`)).status).toBe(200);
  });
});

describe('manifests', () => {
  const config = Buffer.from('{}');

  it('takes a manifest by tag and by digest and gives it back byte for byte', async () => {
    const manifest = manifestOf(await registry.addBlob(REPO, config), [await registry.addBlob(REPO, randomBytes(3))]);
    const digest = sha256(manifest);
    const put = await putManifest(registry.url, REPO, 'v1', manifest);
    expect([put.status, put.headers['docker-content-digest']]).toEqual([201, digest]);
    for (const reference of ['v1', digest]) {
      const got = await ask('GET', at(`manifests/${reference}`));
      expect(got.headers['content-type']).toBe('application/vnd.oci.image.manifest.v1+json');
      expect(got.body).toEqual(manifest);
      expect((await ask('HEAD', at(`manifests/${reference}`))).headers['docker-content-digest']).toBe(digest);
    }
    expect((await putManifest(registry.url, REPO, digest, manifest)).status).toBe(201);
    expect((await putManifest(registry.url, REPO, sha256(config), manifest)).code).toBe('DIGEST_INVALID');
    expect((await putManifest(registry.url, REPO, 'not a tag'.replaceAll(' ', '!'), manifest)).code).toBe(
      'TAG_INVALID',
    );
  });

  it('names every blob and child that is missing', async () => {
    const manifest = manifestOf(sha256(config), [sha256(randomBytes(3))]);
    const refused = await putManifest(registry.url, REPO, 'v1', manifest);
    expect([refused.status, refused.code]).toEqual([404, 'MANIFEST_BLOB_UNKNOWN']);
    expect(JSON.parse(refused.body.toString()).errors).toHaveLength(2);
    const index = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [{ digest: sha256(manifest) }] }));
    expect((await putManifest(registry.url, REPO, 'v2', index)).code).toBe('MANIFEST_BLOB_UNKNOWN');
    await registry.addBlob(REPO, config);
    expect((await putManifest(registry.url, REPO, 'v3', Buffer.from('no JSON'))).code).toBe('MANIFEST_INVALID');
  });

  it('lists tags in pages and deletes them, and a digest with its tags', async () => {
    const manifest = manifestOf(await registry.addBlob(REPO, config), []);
    for (const tag of ['b', 'a', 'c']) await putManifest(registry.url, REPO, tag, manifest);
    expect(JSON.parse((await ask('GET', at('tags/list'))).body.toString()).tags).toEqual(['a', 'b', 'c']);
    const page = await ask('GET', at('tags/list?n=2'));
    expect(page.headers.link).toContain('last=b');
    expect(JSON.parse((await ask('GET', at('tags/list?n=2&last=b'))).body.toString()).tags).toEqual(['c']);
    expect((await ask('DELETE', at('manifests/a'))).status).toBe(202);
    expect(registry.tags(REPO)).toEqual(['b', 'c']);
    expect((await ask('DELETE', at(`manifests/${sha256(manifest)}`))).status).toBe(202);
    expect([registry.tags(REPO), (await ask('GET', at('manifests/b'))).code]).toEqual([[], 'MANIFEST_UNKNOWN']);
  });

  it('lists referrers', async () => {
    const blob = await registry.addBlob(REPO, config);
    const subject = manifestOf(blob, []);
    const descriptor = { digest: sha256(subject), size: subject.length };
    const put = await putManifest(
      registry.url,
      REPO,
      'sig',
      manifestOf(blob, [], { subject: descriptor, artifactType: 'a/b' }),
    );
    expect(put.headers['oci-subject']).toBe(sha256(subject));
    const list = JSON.parse((await ask('GET', at(`referrers/${sha256(subject)}`))).body.toString());
    expect(list.manifests).toHaveLength(1);
    const none = await ask('GET', at(`referrers/${sha256(subject)}?artifactType=c/d`));
    expect(JSON.parse(none.body.toString()).manifests).toEqual([]);
    expect(none.headers['oci-filters-applied']).toBe('artifactType');
  });
});

describe('size', () => {
  it('streams hundreds of megabytes with little memory', async () => {
    const piece = randomBytes(1024 * 1024);
    const hash = createHash('sha256');
    const pieces = 200;
    for (let n = 0; n < pieces; n += 1) hash.update(piece);
    const digest = `sha256:${hash.digest('hex')}`;
    const before = process.memoryUsage().rss;
    const body = Readable.from(
      (function* () {
        for (let n = 0; n < pieces; n += 1) yield piece;
      })(),
      { objectMode: false },
    );
    const opened = await openSession(registry.url, REPO);
    const headers = { 'Content-Length': String(pieces * piece.length) };
    const put = await ask('PUT', closing(opened, digest), { body, headers });
    expect(put.status).toBe(201);
    expect(registry.uploadedBytes()).toBe(pieces * piece.length);
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * 1024 * 1024);
    const again = createHash('sha256');
    for await (const bytes of createReadStream(registry.blobPath(digest))) again.update(bytes);
    expect(`sha256:${again.digest('hex')}`).toBe(digest);
  });

  it('takes blobs at once, each in its own session', async () => {
    const blobs = Array.from({ length: 10 }, () => randomBytes(100_000));
    const replies = await Promise.all(blobs.map((bytes) => sendBlob(registry.url, REPO, bytes, 30_000)));
    expect(replies.map((reply) => reply.status)).toEqual(Array(10).fill(201));
    expect(new Set(registry.blobs(REPO))).toEqual(new Set(blobs.map(sha256)));
  });
});
