/** Eight jobs at once whose images share six of their seven layers, into one registry, with one cache service. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CacheServer, startCacheServer } from '../support/cache-server.ts';
import { type ImageRecipe, writeDockerArchive } from '../support/images.ts';
import { commandOf } from '../support/real/parts.ts';
import { run } from '../support/real/processes.ts';
import { pullBack } from '../support/real/pull.ts';
import { startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { startRegistry } from '../support/registry/server.ts';
import { type ActionRun, freshRunner, runAction } from '../support/runner.ts';
import { metadataOf } from './results.ts';

const JOBS = 8;
const SHARED = 6;
const LAYER_BYTES = 1_000_000;

let folder: string;

/** The files of a layer are named and filled by its position: the last position is a job's own. */
const recipe = (job: number): ImageRecipe => ({
  seed: 'matrix',
  layers: Array.from({ length: SHARED + 1 + job }, (_, index): ImageRecipe['layers'][number] => {
    if (index < SHARED) return { bytes: LAYER_BYTES, content: 'random' };
    return index === SHARED + job ? { bytes: LAYER_BYTES, content: 'random' } : 'empty';
  }),
});

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'matrix-'));
  for (let job = 0; job < JOBS; job += 1) await writeDockerArchive(archive(job), 'app:1', recipe(job));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const archive = (job: number) => join(folder, `image-${job}.tar`);

/** So many jobs at once, each with its post step, on a runner of its own. */
const runMatrix = (
  host: string,
  { cache, jobs = JOBS }: { cache?: CacheServer; jobs?: number } = {},
): Promise<{ main: ActionRun; post: ActionRun }[]> =>
  Promise.all(
    Array.from({ length: jobs }, async (_, job) => {
      const runner = freshRunner();
      const env = cache?.env ?? {};
      const inputs = { image: `docker-archive:${archive(job)}`, tags: `${host}/matrix/app:job-${job}` };
      const main = await runAction({ inputs, env, runner });
      const post = await runAction({ entry: 'post', state: main.state, env, runner });
      runner.remove();
      return { main, post };
    }),
  );

/** Bytes of layers that all jobs share, sent by all of them, as a multiple of what one job must send. */
const timesSent = (runs: readonly ActionRun[]): number => {
  const blobs = runs.map((run) => metadataOf(run).blobs.filter(({ size }) => size > LAYER_BYTES / 2));
  const shared = new Set(
    blobs[0]
      ?.map(({ digest }) => digest)
      .filter((digest) => blobs.every((of) => of.some((blob) => blob.digest === digest))),
  );
  expect(shared.size).toBe(SHARED);
  const sent = blobs.flat().filter(({ digest }) => shared.has(digest));
  const once = sent.filter(({ digest }, index) => sent.findIndex((blob) => blob.digest === digest) === index);
  const sum = (of: typeof sent, bytes: (blob: (typeof sent)[number]) => number) =>
    of.reduce((all, blob) => all + bytes(blob), 0);
  return sum(sent, ({ bytesSent }) => bytesSent) / sum(once, ({ size }) => size);
};

const expectGood = (runs: readonly { main: ActionRun; post: ActionRun }[]) => {
  expect(runs.flatMap(({ main }) => main.errors)).toEqual([]);
  expect(runs.flatMap(({ main, post }) => [main.exitCode, post.exitCode])).toEqual(Array(2 * runs.length).fill(0));
};

describe('eight jobs at once', () => {
  it('all succeed on one registry and one cache, and send nothing the next time', async () => {
    const [registry, cache] = await Promise.all([startRegistry(), startCacheServer()]);
    const cold = await runMatrix(registry.host, { cache });
    expectGood(cold);
    const times = timesSent(cold.map(({ main }) => main));
    console.log(`matrix: ${JOBS} jobs sent the layers that they share ${times.toFixed(2)} times in all`);
    expect(times).toBeLessThanOrEqual(JOBS);
    for (const [job, { main }] of cold.entries())
      expect(registry.manifest('matrix/app', `job-${job}`)?.digest).toBe(main.outputs.digest);
    const warm = await runMatrix(registry.host, { cache, jobs: 2 });
    expectGood(warm);
    expect(warm.map(({ main }) => metadataOf(main).bytesSent)).toEqual([0, 0]);
    expect(warm.map(({ main }) => main.outputs.digest)).toEqual(
      cold.slice(0, 2).map(({ main }) => main.outputs.digest),
    );
    expect(registry.openSessions()).toBe(0);
    await Promise.all([registry.close(), cache.close()]);
  });
});

describeWith(['docker-registry', 'skopeo'], 'eight jobs at once on docker-registry', () => {
  it('all succeed, and what they pushed pulls back whole', async () => {
    const registry = await startDockerRegistry();
    const runs = await runMatrix(registry.host);
    expectGood(runs);
    const times = timesSent(runs.map(({ main }) => main));
    console.log(`matrix on docker-registry: the shared layers were sent ${times.toFixed(2)} times in all`);
    // Two of them hold every shared layer, and one of their own each.
    for (const [job, { main }] of runs.slice(0, 2).entries()) {
      const pulled = await pullBack(`${registry.host}/matrix/app:job-${job}`);
      expect(pulled.digest).toBe(main.outputs.digest);
    }
    expect(registry.openUploads()).toEqual([]);
    await registry.stop();
  });
});

/** Bytes of a layer that came compressed, from which on the cache is asked who has it; random bytes do not shrink. */
const WORTH_A_MOUNT = 11_000_000;

describeWith(['docker-registry', 'skopeo'], 'a job that shares layers with an earlier one, on docker-registry', () => {
  /** The first two layers are shared, the last one is the image's own. */
  const sharing = (own: number): ImageRecipe => ({
    seed: 'mounts',
    layers: [
      { bytes: WORTH_A_MOUNT, content: 'random' },
      { bytes: 300_000, content: 'random' },
      ...Array.from({ length: own }, () => 'empty' as const),
      { bytes: 100_000, content: 'random' },
    ],
  });

  /** The image as `docker save` of overlay2 writes it, its layers plain, or with gzip layers and a manifest of their digests. */
  const imageOf = async (name: string, own: number, layers: 'plain' | 'compressed'): Promise<string> => {
    const plain = join(folder, `${name}-plain.tar`);
    await writeDockerArchive(plain, 'app:1', sharing(own));
    if (layers === 'plain') return `docker-archive:${plain}`;
    const compressed = `oci-archive:${join(folder, `${name}-compressed.tar`)}`;
    await run(commandOf('skopeo', 'skopeo'), ['--insecure-policy', 'copy', `docker-archive:${plain}`, compressed]);
    return compressed;
  };

  it.each([
    // Small layers that came compressed are sent sooner than the cache's service answers.
    { layers: 'plain', mounted: 2 },
    { layers: 'compressed', mounted: 1 },
  ] as const)('mounts $layers layers out of the repository that has them', async ({ layers, mounted }) => {
    const [registry, cache] = await Promise.all([startDockerRegistry(), startCacheServer()]);
    try {
      const jobOf = async (name: string, own: number) => {
        const runner = freshRunner();
        const inputs = { image: await imageOf(name, own, layers), tags: `${registry.host}/team/${name}:v1` };
        const main = await runAction({ inputs, env: cache.env, runner });
        const post = await runAction({ entry: 'post', state: main.state, env: cache.env, runner });
        runner.remove();
        expectGood([{ main, post }]);
        return main;
      };
      const first = await jobOf('api', 0);
      const second = await jobOf('app', 1);
      const fates = metadataOf(second).blobs.filter(({ what }) => what === 'mounted');
      expect(fates).toHaveLength(mounted);
      expect(Math.max(...fates.map(({ size }) => size))).toBeGreaterThan(WORTH_A_MOUNT);
      const had = metadataOf(first).blobs.map(({ digest }) => digest);
      for (const { digest } of fates) expect(had).toContain(digest);
      expect(metadataOf(second).bytesSent).toBeLessThan(mounted === 2 ? 200_000 : 500_000);
      expect((await pullBack(`${registry.host}/team/app:v1`)).digest).toBe(second.outputs.digest);
      expect(registry.openUploads()).toEqual([]);
    } finally {
      await Promise.all([registry.stop(), cache.close()]);
    }
  });
});
