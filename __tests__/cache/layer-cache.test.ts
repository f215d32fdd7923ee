/** The layer cache over the real @actions/cache, its tar and its process, against a service on loopback. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { savePlan } from '../../src/cache/save.ts';
import { digestOf } from '../../src/oci/types.ts';
import { freshRunner, REPOSITORY, type TestLayer, testLayer } from '../support/cache-runner.ts';
import { type CacheServer, startCacheServer } from '../support/cache-server.ts';

let server: CacheServer;
beforeEach(async () => {
  server = await startCacheServer();
});
afterEach(() => server.close());

/** A push on a runner of its own that made these layers, with its post step. */
async function pushed(
  layers: readonly TestLayer[],
  options: Parameters<Awaited<ReturnType<typeof freshRunner>>['open']>[0] = {},
) {
  const runner = await freshRunner(server);
  const cache = await runner.open(options);
  const plan = await cache.record(await Promise.all(layers.map((layer) => runner.made(cache, layer))));
  await cache.close();
  const report = await savePlan(JSON.parse(JSON.stringify(plan)), runner.log);
  return { ...runner, plan, report };
}

describe('from runner to runner', () => {
  it('what one push saved, a fresh runner with other folders knows and restores', async () => {
    const layers = [testLayer(), testLayer()];
    const { report, log } = await pushed(layers);
    expect(report.saved).toHaveLength(3);
    expect(report.failed).toEqual([]);
    expect(log.lines).toEqual([expect.stringMatching(/saved 3 entries/)]);

    const runner = await freshRunner(server);
    const cache = await runner.open();
    const known = await cache.known();
    for (const { diffId, descriptor, blob } of layers) {
      expect(known.get(diffId)).toEqual({ ...descriptor, source: 'cache' });
      const restored = await cache.restore(diffId);
      expect(restored?.descriptor).toEqual(descriptor);
      expect(await readFile(restored!.path)).toEqual(blob);
    }
    expect(runner.log.lines).toEqual([]);
  });

  it('zstd layers too, and no setting sees what another one saved', async () => {
    const layer = testLayer(100_000, 'zstd');
    await pushed([layer], { compression: 'zstd', level: 3 });
    const runner = await freshRunner(server);
    const other = await runner.open({ compression: 'zstd', level: 30 });
    expect((await other.known()).size).toBe(0);
    expect(await other.restore(layer.diffId)).toBeUndefined();
    const same = await runner.open({ compression: 'zstd', level: 3 });
    expect((await same.restore(layer.diffId))?.descriptor).toEqual(layer.descriptor);
  });

  it('an image in another registry shares the layers, not the pointers', async () => {
    const layer = testLayer();
    await pushed([layer]);
    const cache = await (await freshRunner(server)).open({ repositories: [`other.${REPOSITORY}`] });
    expect((await cache.known()).size).toBe(0);
    expect((await cache.restore(layer.diffId))?.descriptor).toEqual(layer.descriptor);
  });

  it('a job of another image in the same registry knows which repositories have a blob, whichever job saved last', async () => {
    const host = REPOSITORY.slice(0, REPOSITORY.indexOf('/'));
    const [api, worker, app] = ['team/api', 'team/worker', 'team/app'].map((name) => `${host}/${name}`);
    const [shared, own] = [testLayer(), testLayer()];
    const jobOf = async (repository: string, layers: readonly TestLayer[]) => {
      const runner = await freshRunner(server);
      const cache = await runner.open({ repositories: [repository] });
      await cache.known();
      const made = await Promise.all(layers.map((layer) => runner.made(cache, layer)));
      const plan = await cache.record(made.map((layer) => ({ ...layer, repositories: [repository] })));
      await cache.close();
      return () => savePlan(JSON.parse(JSON.stringify(plan)), runner.log);
    };
    const repositoriesOf = async (repository: string, { diffId }: TestLayer) => {
      const cache = await (await freshRunner(server)).open({ repositories: [repository] });
      const known = (await cache.known()).get(diffId)?.repositories;
      await cache.close();
      return known?.toSorted();
    };
    await (await jobOf(api!, [shared]))();
    expect(await repositoriesOf(app!, shared)).toEqual([api]);
    // Two jobs that ran at the same time: what each saved, its own next one finds.
    const saves = [await jobOf(worker!, [shared]), await jobOf(app!, [shared, own])];
    for (const save of saves) await save();
    expect(await repositoriesOf(app!, shared)).toEqual([api, app]);
    expect(await repositoriesOf(worker!, shared)).toEqual([api, app, worker]);
    expect(await repositoriesOf(worker!, own)).toEqual([app]);
  });

  it('pointers add up from push to push, and an unchanged image saves nothing', async () => {
    const [first, second] = [testLayer(), testLayer()];
    await pushed([first]);
    await pushed([second]);
    const runner = await freshRunner(server);
    const cache = await runner.open();
    expect([...(await cache.known()).keys()].sort()).toEqual([first.diffId, second.diffId].sort());
    const plan = await cache.record([first, second].map(({ diffId, descriptor }) => ({ diffId, descriptor })));
    expect(plan).toMatchObject({ pointers: [], layers: [], dropped: [] });
  });

  it('a restored layer is not saved again', async () => {
    const layer = testLayer();
    await pushed([layer]);
    const cache = await (await freshRunner(server)).open();
    const restored = (await cache.restore(layer.diffId))!;
    const plan = await cache.record([{ diffId: layer.diffId, ...restored }]);
    expect(plan).toMatchObject({ pointers: [], layers: [] });
  });

  it('two jobs that made other bytes of one layer: the second finds the first one’s entry, and uses it', async () => {
    const layer = testLayer();
    const other = { ...layer, blob: Buffer.concat([layer.blob, EMPTY_GZIP_MEMBER]) };
    const descriptor = { ...layer.descriptor, digest: digestOf(other.blob), size: other.blob.length };
    await pushed([layer]);
    const { report } = await pushed([{ ...other, descriptor }]);
    expect(report.existing).toHaveLength(1);
    const cache = await (await freshRunner(server)).open();
    expect((await cache.known()).get(layer.diffId)?.digest).toBe(descriptor.digest);
    expect((await cache.restore(layer.diffId))?.descriptor).toEqual(layer.descriptor);
  });
});

/** `gzip < /dev/null`: a member that adds nothing. */
const EMPTY_GZIP_MEMBER = Buffer.from('1f8b08000000000000030300000000000000 0000'.replace(' ', ''), 'hex');

describe('on one machine', () => {
  it('a second push finds what the first one left, without any service', async () => {
    const runner = await freshRunner();
    const layer = testLayer();
    const first = await runner.open();
    expect(await first.record([await runner.made(first, layer)])).toMatchObject({ pointers: [], layers: [] });
    await first.close();
    const second = await runner.open();
    expect(await second.known()).toEqual(new Map([[layer.diffId, { ...layer.descriptor, source: 'spool' }]]));
    const restored = await second.restore(layer.diffId);
    expect(await readFile(restored!.path)).toEqual(layer.blob);
    expect(runner.log.lines).toEqual([]);
  });

  it('a file that was changed is removed, not given', async () => {
    const runner = await freshRunner();
    const layer = testLayer();
    const first = await runner.open();
    await first.record([await runner.made(first, layer)]);
    const folder = join(runner.temp, 'chunked-push/v1/gzip-1/layers');
    const [name] = await readdir(folder);
    await writeFile(join(folder, name!), layer.blob.fill(0, 500, 501));
    const second = await runner.open();
    expect(await second.restore(layer.diffId)).toBeUndefined();
    expect(runner.log.lines).toEqual([expect.stringContaining('its file on this machine has the digest sha256:')]);
    expect(await readdir(folder)).toEqual([]);
  });

  it('the folder keeps to its bound, and what a process holds outlives it', async () => {
    const runner = await freshRunner();
    const layers = [testLayer(), testLayer(), testLayer()];
    const first = await runner.open({ maxSize: 250_000 });
    await first.record([await runner.made(first, layers[0]!)]);
    await first.record([await runner.made(first, layers[1]!)]);
    const reader = await runner.open();
    const held = await reader.restore(layers[0]!.diffId);
    await first.record([await runner.made(first, layers[2]!)]);
    const last = await runner.open();
    const there = await Promise.all(layers.map(({ diffId }) => last.restore(diffId)));
    expect(there.map((found) => found !== undefined)).toEqual([true, false, true]);
    const tight = await runner.open({ maxSize: 0 });
    await tight.record([]);
    expect(await readFile(held!.path)).toEqual(layers[0]!.blob);
  });
});

describe('saving', () => {
  it('bounded by maxSize, what saves least goes first, and its file at once', async () => {
    const runner = await freshRunner(server);
    const [slow, quick, tiny] = [testLayer(100_000), testLayer(100_000), testLayer(1000)];
    const cache = await runner.open({ maxSize: 150_000 });
    const plan = await cache.record([
      await runner.made(cache, quick, 0.1),
      await runner.made(cache, slow, 9),
      await runner.made(cache, tiny, 9),
    ]);
    expect(plan.layers.map(({ size }) => size)).toEqual([slow.descriptor.size]);
    expect(plan.dropped.map(({ diffId }) => diffId).sort()).toEqual([quick.diffId, tiny.diffId].sort());
    expect(await readdir(join(runner.temp, 'chunked-push/v1/gzip-1/layers'))).toHaveLength(1);
    await savePlan(plan, runner.log);
    expect(await readdir(join(runner.temp, 'chunked-push/v1/gzip-1/layers'))).toEqual([]);
    expect(server.entries().map(({ key }) => key)).toHaveLength(2);
  });

  it('keys have the documented form', async () => {
    const layer = testLayer();
    await pushed([layer]);
    const keys = server.entries().map(({ key }) => key);
    expect(keys).toContain(`chunked-push-layer-v1-gzip-1-${layer.diffId.slice(7)}`);
    expect(keys).toContainEqual(
      expect.stringMatching(/^chunked-push-pointers-v2-gzip-1-[0-9a-f]{32}-[0-9a-f]{32}-[0-9a-f]{32}$/),
    );
  });

  it('matrix jobs that save the same layers at the same time all end well, and nothing is saved twice', async () => {
    const layers = [testLayer(), testLayer()];
    const jobs = [await freshRunner(server), await freshRunner(server), await freshRunner(server)];
    const reports = await Promise.all(
      jobs.map(async (runner) => {
        const cache = await runner.open();
        const plan = await cache.record(await Promise.all(layers.map((layer) => runner.made(cache, layer))));
        await cache.close();
        return savePlan(plan, runner.log);
      }),
    );
    for (const report of reports) {
      expect(report.failed).toEqual([]);
      expect(report.saved.length + report.existing.length).toBe(3);
    }
    expect(reports.reduce((sum, { saved }) => sum + saved.length, 0)).toBe(3);
    expect(server.entries()).toHaveLength(3);
  });

  it('a layer whose file is gone is reported, the others are saved', async () => {
    const runner = await freshRunner(server);
    const cache = await runner.open();
    const plan = await cache.record([await runner.made(cache, testLayer()), await runner.made(cache, testLayer())]);
    await writeFile(join(runner.temp, 'x'), '');
    const gone = {
      ...plan,
      layers: plan.layers.map((entry, at) => (at ? entry : { ...entry, path: `${entry.path}-gone` })),
    };
    const report = await savePlan(gone, runner.log);
    expect(report.saved).toHaveLength(2);
    expect(report.failed).toEqual([expect.objectContaining({ why: 'its file is gone' })]);
  });
});
