/** Whatever the cache service does, a push goes on: at most a line in the log, and no wrong bytes. */
import { randomBytes } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { zstdCompressSync } from 'node:zlib';
import tar, { type Header } from 'tar-stream';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { layerEntry, pointerPrefix } from '../../src/cache/known-layers.ts';
import { type SavePlan, savePlan } from '../../src/cache/save.ts';
import {
  freshRunner,
  makeRunner,
  REPOSITORY,
  type TestLayer,
  type TestLog,
  type TestRunner,
  testLayer,
} from '../support/cache-runner.ts';
import { type CacheFailure, type CacheOperation, type CacheServer, startCacheServer } from '../support/cache-server.ts';
import { describeWith } from '../support/real/suite.ts';

const FORMAT = { compression: 'gzip', level: 1 } as const;
/** What a call that gets no answer in time ends with: @actions/cache itself would wait 30 s and more. */
const LATE = /did not answer within 1 s/;
const SHORT = { lookup: 1000, restore: 1000, save: 1000 };
const deadlinesFor = (line: RegExp) => (line === LATE ? SHORT : {});

let server: CacheServer;
const layer = testLayer();
const layers = [layer, testLayer(), testLayer()];

/** The service holds the three layers and the pointers to them; the tests change what it says of them. */
beforeAll(async () => {
  server = await startCacheServer();
  await using runner = await makeRunner(server);
  const report = await savePlan(...(await recorded(layers, runner)));
  expect(report.saved).toHaveLength(4);
});
afterEach(() => {
  for (const operation of Object.keys(server.failures)) delete server.failures[operation as CacheOperation];
});
afterAll(() => server.close());

/** What the post step of a push gets that made these layers. */
async function recorded(made: readonly TestLayer[], runner: TestRunner): Promise<[SavePlan, TestLog]> {
  const cache = await runner.open();
  const plan = await cache.record(await Promise.all(made.map((each) => runner.made(cache, each))));
  await cache.close();
  return [plan, runner.log];
}

/** What @actions/cache packs, with members of any name: an archive for `replace`. */
async function archive(...members: readonly (Partial<Header> & { content?: Buffer })[]): Promise<Buffer> {
  const pack = tar.pack();
  for (const { content, ...header } of members) pack.entry({ name: '', ...header }, content ?? Buffer.alloc(0));
  pack.finalize();
  return zstdCompressSync(await buffer(pack));
}

describe('restoring from a service that fails', () => {
  const outages: readonly [CacheFailure, RegExp][] = [
    ['429', /429/],
    ['5xx', LATE],
    ['hang', LATE],
    ['not-json', LATE],
    ['reset', /ECONNRESET/],
    ['unreadable', /cache read denied/],
  ];
  it.each(outages)('%s at every lookup: one line, and it is not asked again', async (failure, line) => {
    server.failures.lookup = failure;
    const runner = await freshRunner(server);
    const cache = await runner.open({ deadlines: deadlinesFor(line) });
    expect((await cache.known()).size).toBe(0);
    const { lookup } = server.stats;
    expect(await Promise.all(layers.map(({ diffId }) => cache.restore(diffId)))).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect(server.stats.lookup).toBe(lookup);
    expect(runner.log.lines).toEqual([expect.stringMatching(line)]);
  });

  const broken: readonly [CacheFailure, RegExp][] = [
    ['corrupt', /tar" failed/],
    ['truncate', /aborted/],
    ['reset', LATE],
    ['5xx', LATE],
    ['429', /tar" failed/],
    ['hang', LATE],
  ];
  it.each(broken)('%s at the download: one line', async (failure, line) => {
    const runner = await freshRunner(server);
    const cache = await runner.open({ deadlines: deadlinesFor(line) });
    await cache.known();
    server.failures.download = failure;
    expect(await cache.restore(layer.diffId)).toBeUndefined();
    expect(runner.log.lines).toEqual([expect.stringMatching(line)]);
  });

  it('a cancelled push waits for nothing', async () => {
    server.failures.lookup = 'hang';
    const runner = await freshRunner(server);
    const abort = new AbortController();
    const cache = await runner.open({ signal: abort.signal });
    const { lookup } = server.stats;
    const known = cache.known();
    await expect.poll(() => server.stats.lookup).toBeGreaterThan(lookup);
    abort.abort();
    expect((await known).size).toBe(0);
    expect(runner.log.lines).toEqual([]);
  });

  it('a push that was cancelled before it opened the cache asks nobody', async () => {
    const { lookup } = server.stats;
    const runner = await freshRunner(server);
    const cache = await runner.open({ signal: AbortSignal.abort() });
    expect((await cache.known()).size).toBe(0);
    expect(server.stats.lookup).toBe(lookup);
    expect(runner.log.lines).toEqual([]);
  });

  it('without a service nothing is started and nothing is waited for', async () => {
    const runner = await freshRunner();
    const started: unknown[] = [];
    const note = (message: unknown) => started.push(message);
    subscribe('child_process', note);
    onTestFinished(() => void unsubscribe('child_process', note));
    const cache = await runner.open();
    expect((await cache.known()).size).toBe(0);
    expect(await cache.restore(layer.diffId)).toBeUndefined();
    expect(await savePlan(await cache.record([]), runner.log)).toMatchObject({ saved: [], failed: [] });
    // @actions/cache, which would wait ten seconds for each of these calls, runs in a process of its own.
    expect(started).toEqual([]);
    expect(runner.log.lines).toEqual([]);
  });
});

// @actions/cache packs by zstd where it is installed, and reads no other archive then.
describeWith(['zstd'], 'entries that somebody else wrote', () => {
  const entry = () => layerEntry(FORMAT, layer.diffId);
  const name = () => `entries/${entry().file}`;
  async function restorePoisoned(poison: Buffer) {
    await server.replace(entry().key, poison);
    const runner = await freshRunner(server);
    const cache = await runner.open();
    return { restored: await cache.restore(layer.diffId), runner };
  }

  it('another layer’s bytes, sound in themselves', async () => {
    const { restored, runner } = await restorePoisoned(await archive({ name: name(), content: testLayer().blob }));
    expect(restored).toBeUndefined();
    expect(runner.log.lines).toEqual([expect.stringMatching(/the entry has another layer, sha256:/)]);
  });

  it('the right layer with bytes after its end, which other readers refuse', async () => {
    const content = Buffer.concat([layer.blob, randomBytes(100)]);
    const { restored, runner } = await restorePoisoned(await archive({ name: name(), content }));
    expect(restored).toBeUndefined();
    expect(runner.log.lines).toEqual([expect.stringMatching(/100 bytes follow the end|incorrect header/)]);
  });

  it('half of the layer, not compressed at all, empty', async () => {
    for (const content of [layer.blob.subarray(0, 50_000), Buffer.alloc(1000), Buffer.alloc(0)]) {
      const { restored, runner } = await restorePoisoned(await archive({ name: name(), content }));
      expect(restored).toBeUndefined();
      expect(runner.log.lines).toHaveLength(1);
    }
  });

  it('an archive that names files elsewhere writes only into the cache’s own folder', async () => {
    const outside = join((await freshRunner()).temp, 'victim');
    await writeFile(outside, 'untouched');
    const { restored } = await restorePoisoned(
      await archive(
        { name: outside, content: Buffer.from('evil') },
        { name: `../../../../../..${outside}`, content: Buffer.from('evil') },
        { name: 'entries/door', type: 'symlink', linkname: join(outside, '..') },
        { name: 'entries/door/new', content: Buffer.from('evil') },
        { name: 'entries', type: 'symlink', linkname: join(outside, '..') },
        { name: 'entries/victim', content: Buffer.from('evil') },
        { name: name(), content: layer.blob },
      ),
    );
    expect(restored?.descriptor).toEqual(layer.descriptor);
    expect(await readdir(join(outside, '..'))).toEqual(['victim']);
    expect((await stat(outside)).size).toBe('untouched'.length);
  });

  it('a link in place of the layer', async () => {
    const { restored, runner } = await restorePoisoned(
      await archive({ name: name(), type: 'symlink', linkname: '/etc/hostname' }),
    );
    expect(restored).toBeUndefined();
    expect(runner.log.lines).toEqual([expect.stringContaining('the entry is not a file')]);
  });

  it.each([
    ['that are not JSON', Buffer.from('<html>')],
    ['of 100 MB', Buffer.alloc(100_000_000, ' ')],
  ])('pointers %s teach nothing', async (_, content) => {
    const { file, key } = pointerPrefix(FORMAT, REPOSITORY);
    const saved = server.entries().find((each) => each.key.startsWith(key))!;
    const before = await server.archive(saved.key);
    await server.replace(saved.key, await archive({ name: `entries/${file}`, content }));
    const cache = await (await freshRunner(server)).open();
    expect((await cache.known()).size).toBe(0);
    await server.replace(saved.key, before);
  });

  it('a longer registry’s pointers are not taken for this one’s', async () => {
    const cache = await (await freshRunner(server)).open({ repositories: [`x${REPOSITORY}`, REPOSITORY.slice(1)] });
    expect((await cache.known()).size).toBe(0);
  });
});

describe('saving to a service that fails', () => {
  const failing: readonly [keyof CacheServer['failures'], CacheFailure, RegExp][] = [
    ['create', 'read-only', /4 entries were not saved: .*cache write denied/],
    ['create', '429', /4 entries were not saved: .*429/],
    ['create', '5xx', LATE],
    ['create', 'hang', LATE],
    ['upload', 'corrupt', /./],
    ['upload', 'hang', LATE],
    ['finalize', '429', /4 entries were not saved: .*429/],
    ['lookup', '429', /429/],
    ['lookup', 'hang', LATE],
  ];
  it.each(failing)('%s: %s', async (operation, failure, line) => {
    const [plan, log] = await recorded([testLayer(), testLayer(), testLayer()], await freshRunner(server));
    server.failures[operation] = failure;
    const report = await savePlan(plan, log, { deadlines: deadlinesFor(line) });
    expect(report.saved).toEqual([]);
    expect(report.failed).toHaveLength(4);
    expect(log.lines).toEqual([expect.stringMatching(line)]);
    for (const { path } of plan.layers) await expect(stat(path)).rejects.toThrow('ENOENT');
    expect(await readdir(join(plan.workspace, '..'))).toEqual([]);
  });

  it('a key that another job has just taken counts as there', async () => {
    const [plan, log] = await recorded([testLayer()], await freshRunner(server));
    server.failures.create = 'exists';
    expect(await savePlan(plan, log)).toMatchObject({ saved: [], failed: [] });
    expect(log.lines).toEqual([expect.stringMatching(/saved 0 entries \(0 bytes\), 2 were there already/)]);
  });
});
