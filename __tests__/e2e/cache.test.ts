/** The layer cache from the first push to the next fresh runner, and what it is not trusted with. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type CacheFailure, type CacheOperation, type CacheServer, startCacheServer } from '../support/cache-server.ts';
import { writeDockerArchive } from '../support/images.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { type ActionRun, freshRunner, runAction } from '../support/runner.ts';
import { metadataOf } from './results.ts';

const KB = 1000;

let folder: string;
let archive: string;
let other: string;
let registry: Registry;
let cache: CacheServer;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cache-e2e-'));
  archive = join(folder, 'image.tar');
  other = join(folder, 'other.tar');
  // The third layer is too small to be worth an entry.
  const layers = [{ bytes: 300 * KB }, { bytes: 200 * KB, content: 'random' as const }, { bytes: 5 * KB }];
  await writeDockerArchive(archive, 'app:1', { seed: 'cache-e2e', layers });
  await writeDockerArchive(other, 'app:1', { seed: 'another', layers });
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

beforeEach(async () => {
  [registry, cache] = await Promise.all([startRegistry(), startCacheServer()]);
});

afterEach(async () => {
  await Promise.all([registry.close(), cache.close()]);
});

interface Job {
  readonly main: ActionRun;
  readonly post: ActionRun;
}

interface Services {
  readonly registry: Registry;
  readonly cache: CacheServer;
}

const tagOn = ({ registry }: Services) => `${registry.host}/team/app:v1`;

/** A job on a fresh runner: the push, and its post step. Nothing is learnt from the registry's own images. */
const jobOn = async (services: Services, inputs: Readonly<Record<string, string>> = {}): Promise<Job> => {
  const { registry, cache } = services;
  const runner = freshRunner();
  try {
    const image = `docker-archive:${archive}`;
    const defaults = { image, tags: tagOn(services), 'cache-from': `${registry.host}/none:none` };
    const main = await runAction({ inputs: { ...defaults, ...inputs }, env: cache.env, runner });
    const post = await runAction({ entry: 'post', state: main.state, env: cache.env, runner });
    return { main, post };
  } finally {
    runner.remove();
  }
};

const job = (inputs?: Readonly<Record<string, string>>) => jobOn({ registry, cache }, inputs);

/** A push that went well, whatever the cache did, and put the whole image there. */
const expectPushed = ({ main, post }: Job, at: Registry, digest?: string) => {
  expect(main.errors).toEqual([]);
  expect([main.exitCode, post.exitCode]).toEqual([0, 0]);
  if (digest !== undefined) expect(main.outputs.digest).toBe(digest);
  const stored = at.manifest('team/app', 'v1');
  expect(stored?.digest).toBe(main.outputs.digest);
  const { layers } = JSON.parse(stored?.bytes.toString() ?? '') as { layers: { digest: string }[] };
  const held = at.blobs('team/app');
  for (const layer of layers) expect(held).toContain(layer.digest);
};

const layersOf = (run: ActionRun) => metadataOf(run).blobs.filter(({ mediaType }) => mediaType.includes('layer'));

describe('a cache service that works', () => {
  it('restores what the registry has lost, checked by its hash', async () => {
    const first = await job();
    expectPushed(first, registry);
    expect(first.post.log).toContain('saved 3 entries');
    await registry.reset();
    const { main, post } = await job();
    expectPushed({ main, post }, registry, first.main.outputs.digest);
    expect(
      layersOf(main)
        .map(({ fromCache }) => fromCache)
        .sort(),
    ).toEqual([false, true, true]);
    // The entries are there: nothing is saved twice.
    expect(cache.stats.create).toBe(3);
  });

  it('compresses from the image what the cache gives back corrupted', async () => {
    const first = await job();
    await registry.reset();
    for (const { key } of cache.entries().filter((entry) => entry.key.includes('layer')))
      await cache.replace(key, Buffer.alloc(50 * KB, 7));
    const again = await job();
    expectPushed(again, registry, first.main.outputs.digest);
    expect(layersOf(again.main).map(({ fromCache }) => fromCache)).toEqual([false, false, false]);
    expect(again.main.log).toContain("can't be used");
  });

  it('never pushes a layer that an entry gives for another one', async () => {
    const first = await job();
    await registry.reset();
    const [one, two] = cache.entries().filter((entry) => entry.key.includes('layer'));
    const [a, b] = [await cache.archive(one?.key ?? ''), await cache.archive(two?.key ?? '')];
    await cache.replace(one?.key ?? '', b);
    await cache.replace(two?.key ?? '', a);
    expectPushed(await job(), registry, first.main.outputs.digest);
  });

  it('restores nothing that the registry has', async () => {
    const first = await job();
    cache.stats.download = 0;
    const { main } = await job();
    expect(main.outputs.digest).toBe(first.main.outputs.digest);
    expect(metadataOf(main).bytesSent).toBe(0);
    // The pointers alone.
    expect(cache.stats.download).toBeLessThanOrEqual(2);
  });

  it('is not asked for what the registry explains', async () => {
    const first = await job();
    cache.stats.lookup = 0;
    const { main, post } = await job({ 'cache-from': tagOn({ registry, cache }) });
    expectPushed({ main, post }, registry, first.main.outputs.digest);
    expect(metadataOf(main).bytesSent).toBe(0);
    expect(cache.stats.lookup).toBe(0);
  });

  it('adds no more than cache-max-size', async () => {
    expectPushed(await job({ 'cache-max-size': '210KB' }), registry);
    const layers = cache.entries().filter((entry) => entry.key.includes('layer'));
    expect(layers).toHaveLength(1);
  });

  it('keeps compression settings apart', async () => {
    await job();
    await registry.reset();
    const zstd = await job({ compression: 'zstd' });
    expectPushed(zstd, registry);
    expect(layersOf(zstd.main).every(({ mediaType }) => mediaType.endsWith('zstd'))).toBe(true);
    expect(layersOf(zstd.main).every(({ fromCache }) => !fromCache)).toBe(true);
  });

  it('takes two jobs that save the same keys at the same time', async () => {
    const [one, two] = await Promise.all([job(), job({ tags: `${registry.host}/team/other:v1` })]);
    expect([one, two].flatMap(({ main, post }) => [main.exitCode, post.exitCode])).toEqual([0, 0, 0, 0]);
    expect(one.main.outputs.digest).toBe(two.main.outputs.digest);
    // Two layers, and pointers for each of the repositories.
    expect(cache.entries()).toHaveLength(4);
  });

  it.each(['an empty registry', 'a registry that has another image'])(
    'writes nothing in a dry run: %s',
    async (name) => {
      if (name !== 'an empty registry') await jobOn({ registry, cache }, { image: `docker-archive:${other}` });
      const [before, saved, from] = [registry.contents(), { ...cache.stats }, registry.requests.length];
      const { main } = await job({ 'dry-run': 'true' });
      expect(main.errors).toEqual([]);
      expect(main.exitCode).toBe(0);
      expect(main.outputs.digest).toBeUndefined();
      expect(main.log).toContain('would be uploaded');
      // The registry is examined as `doctor` does it: uploads are opened, nothing is closed, mounted or put.
      const asked = registry.requests.slice(from);
      const changing = asked.filter(({ method }) => !['GET', 'HEAD'].includes(method)).map(({ step }) => step);
      expect(new Set(changing)).toEqual(new Set(['upload-post', 'upload-patch', 'upload-delete']));
      expect(registry.contents()).toEqual(before);
      expect(registry.openSessions()).toBe(0);
      expect(cache.stats).toMatchObject({ create: saved.create, upload: saved.upload });
    },
  );

  it('needs no right to push for a dry run', async () => {
    const login = { username: 'reader', password: 'reads' };
    const readable = await startRegistry({ auth: { basic: { ...login, may: ['pull'] } } });
    try {
      const { main } = await jobOn({ registry: readable, cache }, { ...login, 'dry-run': 'true' });
      expect(main.errors).toEqual([]);
      expect(main.exitCode).toBe(0);
      expect(main.log).toContain('would be uploaded');
      expect(main.log).toMatch(/problem .*40[13]/);
      expect(readable.contents()).toEqual({ repositories: [], sessions: [], files: [] });
    } finally {
      await readable.close();
    }
  });
});

describe('a cache service that fails', () => {
  const failures: [string, Partial<Record<CacheOperation, CacheFailure>>][] = [
    ['a token that may only read', { create: 'read-only' }],
    ['a token that may not read', { lookup: 'unreadable' }],
    ['429', { lookup: '429', create: '429' }],
    ['5xx', { lookup: '5xx', create: '5xx' }],
    ['no answer', { lookup: 'hang' }],
    ['answers that are no JSON', { lookup: 'not-json' }],
    ['resets', { lookup: 'reset' }],
  ];

  // Most of the time of each is spent waiting for the service.
  it('has the push go on, with a line in the log', async () => {
    const jobs = failures.map(async ([name, failing]) => {
      const [registry, cache] = await Promise.all([startRegistry(), startCacheServer()]);
      Object.assign(cache.failures, failing);
      const done = await jobOn({ registry, cache });
      expectPushed(done, registry);
      expect(done.main.log + done.post.log, name).toMatch(/layer cache: /);
      await Promise.all([registry.close(), cache.close()]);
    });
    await Promise.all(jobs);
  });
});
