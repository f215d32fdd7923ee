import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Descriptor, MediaType } from '../../src/oci/types.ts';
import { push } from '../../src/push/push.ts';
import { inRounds } from '../registry/helpers/rounds.ts';
import { LayoutFolder } from '../support/layout.ts';
import { PROFILE_NAMES, TEST_CREDENTIALS } from '../support/registry/profiles.ts';
import type { Registry } from '../support/registry/server.ts';
import { Events, folderForTest, registryForTest, requestForTest, skipWaits } from './bench.ts';

const go = async (image: string, tags: string, inputs: Readonly<Record<string, string>> = {}) => {
  const request = await requestForTest({ image, tags, ...TEST_CREDENTIALS, cache: 'false', ...inputs });
  return push(request, new Events().report, new AbortController().signal);
};

/** An index of two platforms under `staging/app:1`. */
async function stage(registry: Registry): Promise<Descriptor> {
  const layout = new LayoutFolder(join(await folderForTest(), 'layout'));
  const manifests = [await layout.image('amd64', { bytes: 20_000 }), await layout.image('arm64', { bytes: 20_000 })];
  const index = layout.document(MediaType.ociIndex, { manifests });
  layout.close(['v1', index]);
  await go(`oci:${layout.path}:v1`, `${registry.host}/staging/app:1`);
  return index;
}

const steps = ({ requests }: Registry, from: number) => requests.slice(from).map(({ step }) => step);

describe.each(PROFILE_NAMES)('an image in a registry like %s', (profile) => {
  it('goes to another tag and another repository of it without a byte of a blob', async () => {
    skipWaits();
    const registry = await registryForTest({ profile });
    const index = await stage(registry);
    const [bytes, before] = [registry.uploadedBytes(), registry.requests.length];
    await go(`docker://${registry.host}/staging/app:1`, `${registry.host}/staging/app:2`);
    expect(registry.manifest('staging/app', '2')?.digest).toBe(index.digest);
    // No blob is asked for, and no manifest put but under the tag.
    expect(new Set(steps(registry, before).filter((step) => step !== 'token'))).toEqual(
      new Set(['manifest-get', 'manifest-head', 'manifest-put']),
    );
    await go(`docker://${registry.host}/staging/app:1`, `${registry.host}/production/app:1`);
    expect(registry.manifest('production/app', '1')?.digest).toBe(index.digest);
    expect(registry.uploadedBytes()).toBe(bytes);
  });
});

it.each([
  ['plain', 4],
  // The challenge, and the token.
  ['gitlab', 5],
] as const)('a new tag costs few round trips at a registry like %s: %i', async (profile, most) => {
  const registry = await registryForTest({ profile });
  await stage(registry);
  const rounds = await inRounds(registry.host);
  await go(`docker://${rounds.host}/staging/app:1`, `${rounds.host}/staging/app:2`);
  // One is the connection's own.
  expect(rounds.count - 1).toBeLessThanOrEqual(most);
});

it('a dry run names the repository that a blob would be mounted from, and what exists', async () => {
  const registry = await registryForTest();
  await stage(registry);
  const [events, tags] = [new Events(), `${registry.host}/production/app:1`];
  const raw = { image: `docker://${registry.host}/staging/app:1`, 'dry-run': 'true', cache: 'false' };
  await push(await requestForTest({ ...raw, tags }), events.report, new AbortController().signal);
  const lines = events.texts('info').filter((text) => / at 127\.0\.0\.1:/.test(text));
  expect(lines).toHaveLength(4);
  for (const line of lines) expect(line).toContain('would be mounted from staging/app at');
  expect(registry.blobs('production/app')).toEqual([]);
});

it('says for which registry to log in where the source wants credentials', async () => {
  const [from, to] = [await registryForTest({ profile: 'gitlab' }), await registryForTest()];
  await stage(from);
  const inputs = { image: `docker://${from.host}/staging/app:1`, tags: `${to.host}/app:1`, cache: 'false' };
  const pushed = push(await requestForTest(inputs), new Events().report, new AbortController().signal);
  await expect(pushed).rejects.toMatchObject({
    remedy: expect.stringContaining(
      `no credentials for ${from.host} were found: run docker/login-action for it before`,
    ),
  });
});

it('reports a repository of its source that is lower-cased', async () => {
  const registry = await registryForTest();
  const index = await stage(registry);
  const events = new Events();
  const tags = `${registry.host}/staging/app:2`;
  const request = await requestForTest({ image: `docker://${registry.host}/Staging/App:1`, tags, cache: 'false' });
  await push(request, events.report, new AbortController().signal);
  expect(registry.manifest('staging/app', '2')?.digest).toBe(index.digest);
  expect(events.texts('notice')).toEqual([`The repository is lower-cased: ${registry.host}/staging/app:1`]);
});

describe('an image of another registry', () => {
  it('is refused when bytes of a blob are others, though most of them were sent: nothing is left behind', async () => {
    const [from, to] = [await registryForTest(), await registryForTest()];
    await stage(from);
    const isLarge = (digest: string) => readFileSync(from.blobPath(digest)).length > 10_000;
    const large = from.blobs('staging/app').find(isLarge)!;
    const bytes = readFileSync(from.blobPath(large));
    bytes[5_000]! ^= 1;
    writeFileSync(from.blobPath(large), bytes);
    const pushed = go(`docker://${from.host}/staging/app:1`, `${to.host}/production/app:1`, { 'chunk-size': '4KiB' });
    await expect(pushed).rejects.toThrow(/the bytes of the blob sha256:.* have the digest/);
    expect(to.requests.filter(({ step }) => step === 'upload-patch').length).toBeGreaterThan(0);
    expect(to.openSessions()).toBe(0);
    expect(to.blobs('production/app')).not.toContain(large);
    expect(to.tags('production/app')).toEqual([]);
  });

  it('goes to two registries by one reading', async () => {
    const [from, to, other] = [await registryForTest(), await registryForTest(), await registryForTest()];
    const index = await stage(from);
    const before = from.requests.length;
    await go(`docker://${from.host}/staging/app:1`, `${to.host}/production/app:1\n${other.host}/archive/app:1`);
    expect(to.manifest('production/app', '1')?.digest).toBe(index.digest);
    expect(other.manifest('archive/app', '1')?.digest).toBe(index.digest);
    const read = from.requests.slice(before).filter(({ step }) => step === 'blob-get');
    // Two layers and two configs.
    expect(read).toHaveLength(4);
  });
});
