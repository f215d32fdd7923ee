/** The cache service's own tests: what @actions/cache does not reach on loopback, by the Azure client that it uses. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BlockBlobClient } from '@azure/storage-blob';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type CacheServer, startCacheServer } from './cache-server.ts';

let server: CacheServer;
beforeEach(async () => {
  server = await startCacheServer();
});
afterEach(() => server.close());

interface Answer {
  readonly ok?: boolean;
  readonly code?: string;
  readonly signed_upload_url?: string;
  readonly signed_download_url?: string;
  readonly matched_key?: string;
}

async function call(method: string, document: object, token = server.env.ACTIONS_RUNTIME_TOKEN) {
  const response = await fetch(`${server.url}/twirp/github.actions.results.api.v1.CacheService/${method}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body: JSON.stringify(document),
  });
  return { status: response.status, ...((await response.json()) as Answer) };
}

it('blocks that come in any order are joined in the order of the list, and ranges are read from it', async () => {
  const bytes = randomBytes(5_000_000);
  const dir = await mkdtemp(join(tmpdir(), 'cache-server-test-'));
  await writeFile(join(dir, 'archive'), bytes);
  const { signed_upload_url } = await call('CreateCacheEntry', { key: 'k', version: 'v' });
  const options = { blockSize: 400_000, concurrency: 8, maxSingleShotSize: 0 };
  await new BlockBlobClient(signed_upload_url!).uploadFile(join(dir, 'archive'), options);
  await rm(dir, { recursive: true });
  expect(server.stats.upload).toBe(14);
  expect(await call('FinalizeCacheEntryUpload', { key: 'k', version: 'v', size_bytes: '4999999' })).toMatchObject({
    ok: false,
  });
  expect(await call('GetCacheEntryDownloadURL', { key: 'k', version: 'v' })).toMatchObject({ ok: false });
  expect(await call('FinalizeCacheEntryUpload', { key: 'k', version: 'v', size_bytes: '5000000' })).toMatchObject({
    ok: true,
  });
  const { signed_download_url } = await call('GetCacheEntryDownloadURL', { key: 'k', version: 'v' });
  expect(
    await new BlockBlobClient(signed_download_url!).downloadToBuffer(0, undefined, { blockSize: 700_000 }),
  ).toEqual(bytes);
  expect((await fetch(signed_download_url!.replace(/sig=\w\w/, 'sig=__'))).status).toBe(403);
});

it('keys are immutable, versions are worlds apart, and of several the newest wins', async () => {
  const save = async (key: string) => {
    const { signed_upload_url } = await call('CreateCacheEntry', { key, version: 'v' });
    await new BlockBlobClient(signed_upload_url!).upload(key, key.length);
    return call('FinalizeCacheEntryUpload', { key, version: 'v', size_bytes: String(key.length) });
  };
  for (const key of ['a-1', 'a-2', 'b']) expect(await save(key)).toMatchObject({ ok: true });
  expect(await call('CreateCacheEntry', { key: 'a-1', version: 'v' })).toMatchObject({
    status: 409,
    code: 'already_exists',
  });
  const find = async (key: string, restore_keys: string[] = [], version = 'v') =>
    (await call('GetCacheEntryDownloadURL', { key, restore_keys, version })).matched_key;
  expect(await find('a-1')).toBe('a-1');
  expect(await find('a-')).toBe('a-2');
  expect(await find('x', ['y', 'a-', 'b'])).toBe('a-2');
  expect(await find('a-1', [], 'w')).toBeUndefined();
  expect(await call('GetCacheEntryDownloadURL', { key: 'a-1', version: 'v' }, 'wrong')).toMatchObject({ status: 401 });
});
