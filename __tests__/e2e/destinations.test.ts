/** Many tags, repositories and registries at once: one export, one upload a registry, and each destination fails alone. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { writeDockerArchive } from '../support/images.ts';
import { answer } from '../support/registry/answer.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { type ActionRun, runAction } from '../support/runner.ts';
import { metadataOf } from './results.ts';

const KB = 1000;

let folder: string;
let archive: string;
let one: Registry;
let two: Registry;

/** Refuses what a test says for good. */
let refuses: (method: string, path: string, step: string) => boolean = () => false;
const refusing: Quirk = {
  name: 'refuses what a test says',
  before: ({ method, path, route }) =>
    refuses(method, path, route.step)
      ? {
          ...answer(403, { 'Content-Type': 'application/json' }),
          body: JSON.stringify({ errors: [{ code: 'DENIED', message: 'not for you' }] }),
        }
      : undefined,
};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'destinations-'));
  archive = join(folder, 'image.tar');
  const layers = [{ bytes: 300 * KB }, { bytes: 200 * KB, content: 'random' as const }, { bytes: 1 }, { repeat: 0 }];
  await writeDockerArchive(archive, 'app:1', { seed: 'destinations', layers });
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

beforeEach(async () => {
  refuses = () => false;
  [one, two] = await Promise.all([startRegistry({ quirks: [refusing] }), startRegistry()]);
});

afterEach(async () => {
  await Promise.all([one.close(), two.close()]);
});

const push = (tags: readonly string[], inputs: Readonly<Record<string, string>> = {}) =>
  runAction({ inputs: { image: `docker-archive:${archive}`, tags: tags.join('\n'), cache: 'false', ...inputs } });

const sizesOf = (run: ActionRun, registry: Registry) =>
  metadataOf(run)
    .blobs.filter(({ registry: host }) => host === registry.host)
    .reduce((sum, { size }) => sum + size, 0);

describe('several destinations', () => {
  it('get one upload a registry, mounts between its repositories, and a manifest a tag', async () => {
    const tags = [
      `${one.host}/team/app:v1`,
      `${one.host}/team/app:v2`,
      `${one.host}/other/app:v1`,
      `${two.host}/a/b/c:x`,
    ];
    const run = await push(tags);
    expect(run.errors).toEqual([]);
    const digest = run.outputs.digest ?? '';
    expect(metadataOf(run).tags).toEqual(tags.map((reference) => ({ reference, digest })));
    for (const registry of [one, two]) expect(registry.uploadedBytes()).toBe(sizesOf(run, registry));
    expect(one.requests.filter(({ step }) => step === 'upload-mount')).toHaveLength(4);
    expect(one.blobs('other/app').sort()).toEqual(one.blobs('team/app').sort());
    // Tags are put at the same time.
    expect([...one.tags('team/app')].sort()).toEqual(['v1', 'v2']);
    expect(two.manifest('a/b/c', 'x')?.digest).toBe(digest);
    expect([one.openSessions(), two.openSessions()]).toEqual([0, 0]);
    expect(run.outputs.image).toBe(`${one.host}/team/app@${digest}`);
  });

  it('finish without a registry that is down', async () => {
    await two.close();
    const [good, bad] = [`${one.host}/team/app:v1`, `${two.host}/team/app:v1`];
    const run = await push([bad, good], { 'max-retries': '1' });
    expect(run.exitCode).toBe(1);
    expect(run.errors).toHaveLength(1);
    expect(run.errors[0]).toMatch(new RegExp(`^${two.host}/team/app: `));
    expect(run.outputs.digest).toBeUndefined();
    const [first, second] = metadataOf(run).tags;
    expect(first).toMatchObject({ reference: bad, error: expect.stringContaining('no connection') });
    expect(second).toMatchObject({ reference: good, digest: one.manifest('team/app', 'v1')?.digest });
    expect(run.summary).toContain(good);
  });

  it.each([
    ['the first', 'first/app', 'second/app'],
    ['the second', 'second/app', 'first/app'],
  ])('finish without %s repository of a registry, which refuses uploads', async (_, bad, good) => {
    refuses = (method, path) => method === 'POST' && path.includes(bad);
    const run = await push([`${one.host}/first/app:v1`, `${one.host}/second/app:v1`, `${two.host}/third/app:v1`]);
    expect(run.exitCode).toBe(1);
    expect(run.errors[0]).toContain(`${one.host}/${bad}: `);
    expect(run.errors[0]).toContain('not for you');
    expect(one.tags(good)).toEqual(['v1']);
    expect(one.tags(bad)).toEqual([]);
    expect(two.tags('third/app')).toEqual(['v1']);
    expect(metadataOf(run).tags.filter(({ error }) => error !== undefined)).toHaveLength(1);
    expect(one.openSessions()).toBe(0);
  });

  it('finish without a tag that is refused', async () => {
    refuses = (method, path) => method === 'PUT' && path.endsWith('/manifests/stable');
    const [stable, latest] = [`${one.host}/team/app:stable`, `${one.host}/team/app:latest`];
    const run = await push([stable, latest]);
    expect(run.exitCode).toBe(1);
    expect(run.errors[0]).toContain(`${stable}: `);
    expect(one.tags('team/app')).toEqual(['latest']);
    expect(metadataOf(run).tags).toEqual([
      { reference: stable, error: expect.stringContaining('not for you') },
      { reference: latest, digest: one.manifest('team/app', 'latest')?.digest },
    ]);
  });

  it('are all named when all of them fail', async () => {
    refuses = (method) => method === 'POST';
    await two.close();
    const run = await push([`${one.host}/team/app:v1`, `${two.host}/team/app:v1`], { 'max-retries': '1' });
    expect(run.exitCode).toBe(1);
    expect(run.errors).toHaveLength(1);
    for (const { host } of [one, two]) expect(run.errors[0]).toContain(`${host}/team/app: `);
    expect(run.errors[0]).not.toContain('were pushed');
    expect(run.summary).toContain('Nothing was pushed');
  });
});

describe('mounts', () => {
  const other = () => `${one.host}/base/images:1`;

  it('take layers from an image of another repository that cache-from names', async () => {
    const first = await push([other()]);
    one.requests.length = 0;
    const run = await push([`${one.host}/team/app:v1`], { 'cache-from': other() });
    expect(run.errors).toEqual([]);
    expect(run.outputs.digest).toBe(first.outputs.digest);
    const layers = metadataOf(run).blobs.filter(({ mediaType }) => mediaType.includes('layer'));
    expect(layers.map(({ what }) => what)).toEqual(['mounted', 'mounted', 'mounted']);
    // The config is no layer; it is sent.
    expect(one.uploadedBytes()).toBeLessThan(3 * KB);
  });

  it('cost nothing more when they are refused', async () => {
    const first = await push([other()]);
    refuses = (_method, _path, step) => step === 'upload-mount';
    one.requests.length = 0;
    const run = await push([`${one.host}/team/app:v1`], { 'cache-from': other() });
    expect(run.errors).toEqual([]);
    expect(run.outputs.digest).toBe(first.outputs.digest);
    expect(metadataOf(run).bytesSent).toBe(sizesOf(run, one));
    expect(one.openSessions()).toBe(0);
  });
});

describe('a HEAD that is not true', () => {
  it('has the blobs sent again that the manifest was refused for', async () => {
    const serverless = await startRegistry({ profile: 'serverless' });
    const reference = `${serverless.host}/team/app:v1`;
    const first = await push([reference]);
    const layers = metadataOf(first).blobs.filter(({ mediaType }) => mediaType.includes('layer'));
    for (const { digest } of layers) {
      serverless.fallback.set(digest, readFileSync(serverless.blobPath(digest)));
      await serverless.removeBlob('team/app', digest);
    }
    serverless.requests.length = 0;
    // Under another tag: one that names the digest already is not put again.
    const run = await push([`${serverless.host}/team/app:v2`]);
    expect(run.errors).toEqual([]);
    expect(run.exitCode).toBe(0);
    expect(run.outputs.digest).toBe(first.outputs.digest);
    for (const { digest } of layers) expect(serverless.blobs('team/app')).toContain(digest);
    await serverless.close();
  });
});
