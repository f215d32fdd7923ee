import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gunzipSync, gzipSync, zstdDecompressSync } from 'node:zlib';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { StreamedBlob } from '../../src/blob/blob.ts';
import { Spool } from '../../src/blob/spool.ts';
import { type Digest, digestOf, MediaType } from '../../src/oci/types.ts';
import { OnDemand, type PushContext } from '../../src/push/context.ts';
import { blobOfEntry, blobsOf, isRecompressible, NOTHING_AGAIN } from '../../src/push/image-blobs.ts';
import { Transfer } from '../../src/push/transfer.ts';
import type { StreamSource } from '../../src/source/source.ts';
import { refusal } from '../support/registry/answer.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import type { Registry } from '../support/registry/server.ts';
import {
  commitTo,
  composed,
  contextForTest,
  type PlainLayer,
  plainLayer,
  putBlobs,
  registryForTest,
  Served,
  storeOf,
  streamOf,
} from './bench.ts';

const KB = 1000;
const layers = (count: number, bytes = 20 * KB) => Array.from({ length: count }, () => plainLayer(randomBytes(bytes)));

const everything = { blobOf: blobOfEntry, isComplete: () => false, hold: false };

/** Refuses uploads as somebody who may not push. */
const refusesUploads: Quirk = {
  name: 'refuses uploads',
  before: ({ method }) => (method === 'POST' ? refusal(403, 'DENIED', 'not for you') : undefined),
};

/** A layer whose second half comes only when `go` is called; never, if it is not. */
const stalling = (layer: PlainLayer) => {
  const gate = Promise.withResolvers<void>();
  const half = layer.bytes.length / 2;
  const body = Readable.from(
    (async function* () {
      yield layer.bytes.subarray(0, half);
      await gate.promise;
      yield layer.bytes.subarray(half);
    })(),
  );
  return { body, go: gate.resolve };
};

/** What a registry serves for a diffID is that layer. */
const expectLayer = (registry: Registry, transfer: Transfer, { diffId, bytes }: PlainLayer) => {
  const blob = transfer.compressed.get(diffId);
  expect(registry.blobs('team/app')).toContain(blob?.digest);
  expect(gunzipSync(readFileSync(registry.blobPath(blob?.digest ?? ''))).equals(bytes)).toBe(true);
};

const spoolFiles = ({ spool: { made } }: PushContext) => (made && existsSync(made.dir) ? readdirSync(made.dir) : []);

describe.each(['store', 'stream'] as const)('a transfer out of a %s', (kind) => {
  const move = async (context: PushContext, of: readonly PlainLayer[], read?: (layer: PlainLayer) => Readable) => {
    const transfer = new Transfer(context, NOTHING_AGAIN);
    const tree = composed(of);
    const source = kind === 'store' ? storeOf(of, read) : streamOf(of, read);
    if (source.kind === 'store') await transfer.fromStore(source, blobsOf(tree));
    else await transfer.fromStream(source, everything);
    transfer.know(tree);
    await transfer.locate(blobsOf(tree));
    await transfer.finished();
    return { transfer, tree, source };
  };

  it('brings every layer, and leaves no spool file', async () => {
    const registry = await registryForTest();
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1` });
    const of = layers(3);
    const { transfer, tree } = await move(context, of);
    for (const layer of of) expectLayer(registry, transfer, layer);
    expect(await commitTo(context, tree, transfer)).toEqual(new Map());
    expect(registry.tags('team/app')).toEqual(['v1']);
    expect(spoolFiles(context)).toEqual([]);
    expect(transfer.kept).toHaveLength(3);
  });

  it('compresses and sends a layer once that the image has twice', async () => {
    const registry = await registryForTest();
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1` });
    const [one, two] = layers(2) as [PlainLayer, PlainLayer];
    const { transfer, tree } = await move(context, [one, two, one]);
    await commitTo(context, tree, transfer);
    const sent = registry.requests.filter(({ step }) => step === 'upload-put');
    expect(sent).toHaveLength(3);
    const manifest = JSON.parse(registry.manifest('team/app', 'v1')?.bytes.toString() ?? '');
    expect(manifest.layers).toHaveLength(3);
    expect(manifest.layers[0]).toEqual(manifest.layers[2]);
  });

  it('takes an image without layers', async () => {
    const registry = await registryForTest();
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1` });
    const { transfer, tree } = await move(context, []);
    await commitTo(context, tree, transfer);
    expect(registry.tags('team/app')).toEqual(['v1']);
  });

  it('ends when every registry has refused, though a layer is still being made', async () => {
    const registry = await registryForTest({ quirks: [refusesUploads] });
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1`, 'chunk-size': '10000' });
    const layer = plainLayer(randomBytes(8_000_000));
    const { body } = stalling(layer);
    await expect(move(context, [layer], () => body)).rejects.toThrow(/not for you/);
    expect(body.destroyed).toBe(true);
    await expect.poll(() => spoolFiles(context)).toEqual([]);
  });

  it('goes on for the registry that lives when the other one fails in the middle', async () => {
    const good = await registryForTest();
    const bad = await registryForTest({ quirks: [refusesUploads] });
    const tags = `${bad.host}/team/app:v1,${good.host}/team/app:v1`;
    const { context } = await contextForTest({ tags, 'chunk-size': '1MB' });
    const layer = plainLayer(randomBytes(8_000_000));
    const { body, go } = stalling(layer);
    const moving = move(context, [layer], () => body);
    await expect.poll(() => context.registries[0]?.isActive).toBe(false);
    go();
    const { transfer } = await moving;
    expectLayer(good, transfer, layer);
    expect(context.registries.map(({ isActive: alive }) => alive)).toEqual([false, true]);
    expect(spoolFiles(context)).toEqual([]);
  });

  it('gives a layer back whose bytes are others than its diffID names', async () => {
    const registry = await registryForTest();
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1` });
    const [good, bad] = layers(2) as [PlainLayer, PlainLayer];
    const read = ({ diffId, bytes }: PlainLayer) =>
      Readable.from([diffId === bad.diffId ? Buffer.from('other') : bytes]);
    const { transfer } = await move(context, [good, bad], read);
    expect(transfer.isTaken(good.diffId)).toBe(true);
    expect(transfer.isTaken(bad.diffId)).toBe(false);
    expect(String(transfer.whyUnreadable(bad.diffId))).toContain(bad.diffId);
    expect(context.registries[0]?.isActive).toBe(true);
  });

  it('drops an upload that another job has made needless while the layer was being made', async () => {
    const registry = await registryForTest();
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1`, 'chunk-size': '1MB' });
    const layer = plainLayer(randomBytes(12_000_000));
    const [twin] = [await contextForTest({ tags: `${registry.host}/other/app:v1` })];
    const first = await moveOnce(twin.context, layer);
    const { body, go } = stalling(layer);
    const moving = move(context, [layer], () => body);
    await patched(registry);
    const blob = first.compressed.get(layer.diffId);
    await registry.addBlob('team/app', readFileSync(registry.blobPath(blob?.digest ?? '')));
    go();
    const { transfer } = await moving;
    expect(transfer.compressed.get(layer.diffId)).toEqual(blob);
    expect(context.stats.blobs.find(({ digest }) => digest === blob?.digest)?.what).toBe('exists');
    await expect.poll(() => registry.openSessions()).toBe(0);
  });
});

const moveOnce = async (context: PushContext, layer: PlainLayer): Promise<Transfer> => {
  const transfer = new Transfer(context, NOTHING_AGAIN);
  await transfer.fromStore(storeOf([layer]), blobsOf(composed([layer])));
  await transfer.finished();
  return transfer;
};

/** Resolves when a chunk of a growing blob has come to team/app. */
const patched = (registry: Registry): Promise<void> =>
  expect
    .poll(() => registry.requests.map(({ step, repository }) => `${step} ${repository}`))
    .toContain('upload-patch team/app');

describe('a stream', () => {
  it('is read no further than it is needed', async () => {
    const registry = await registryForTest();
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1` });
    const of = layers(4);
    const source = streamOf(of);
    const transfer = new Transfer(context, NOTHING_AGAIN);
    const wanted = of.slice(0, 2).map(({ diffId }) => diffId);
    const isComplete = () => wanted.every((key) => transfer.isTaken(key));
    const blobOf = (entry: StreamedBlob) => (wanted.includes(entry.digest!) ? blobOfEntry(entry) : 'unwanted');
    await transfer.fromStream(source, { blobOf, isComplete, hold: false });
    await transfer.finished();
    expect(source.given).toHaveLength(3);
  });

  it.each([false, true])(
    'has its layers compressed again in another way, known by their diffIDs at the end (hold: %s)',
    async (hold) => {
      const registry = await registryForTest();
      const inputs = { tags: `${registry.host}/team/app:v1`, compression: 'zstd', 'force-compression': 'true' };
      const { context } = await contextForTest(inputs);
      const of = layers(2);
      const packed = of.map(({ bytes }) => gzipSync(bytes));
      const blobs = async function* (): AsyncGenerator<StreamedBlob> {
        for (const bytes of packed) {
          const digest = digestOf(bytes);
          yield { name: digest, digest, size: bytes.length, format: 'gzip', body: Readable.from([bytes]) };
        }
      };
      const source = { ...streamOf(of), kind: 'stream', blobs } as StreamSource;
      const transfer = new Transfer(context, NOTHING_AGAIN);
      const blobOf = (entry: StreamedBlob) =>
        isRecompressible(entry, context.request) ? undefined : blobOfEntry(entry);
      await transfer.fromStream(source, { blobOf, isComplete: () => false, hold });
      await transfer.releaseHeld((key) => key === of[1]?.diffId);
      await transfer.finished();
      const expected = hold ? of.slice(1) : of;
      expect(new Set(transfer.compressed.keys())).toEqual(new Set(expected.map(({ diffId }) => diffId)));
      for (const { diffId, bytes } of expected) {
        const { digest, mediaType } = transfer.compressed.get(diffId)!;
        expect(mediaType).toBe(MediaType.ociLayerZstd);
        expect(zstdDecompressSync(readFileSync(registry.blobPath(digest))).equals(bytes)).toBe(true);
      }
    },
  );

  it('holds everything back until the tree tells what belongs, however little room the spool has', async () => {
    const registry = await registryForTest();
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1` });
    const of = layers(2, 20_000_000);
    const spool = new OnDemand(() => Spool.open(join(context.request.workDir, 'small-spool'), { bound: 1000 }));
    onTestFinished(() => spool.close());
    const transfer = new Transfer({ ...context, spool }, NOTHING_AGAIN);
    await transfer.fromStream(streamOf(of), { ...everything, hold: true });
    expect(registry.requests.filter(({ step }) => step === 'upload-put')).toEqual([]);
    await transfer.releaseHeld((key) => key === of[1]?.diffId);
    await transfer.finished();
    expect(registry.blobs('team/app')).toHaveLength(1);
    expect(spoolFiles(context)).toEqual([]);
  });
});

describe.each([1, 2, 5])('with concurrency: %i', (concurrency) => {
  it.each(['store', 'stream'] as const)('no more blobs of a %s are under way at once, and no fewer', async (kind) => {
    let most = 0;
    const full = Promise.withResolvers<void>();
    const counting: Quirk = {
      name: 'closes no upload before as many are open as there may be',
      after: (given, { route }, { store }) => {
        if (route.step === 'upload-post') most = Math.max(most, store.sessions.size);
        if (most >= concurrency) full.resolve();
        return given;
      },
      close: () => full.promise.then(() => undefined),
    };
    const registry = await registryForTest({ quirks: [counting] });
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1`, concurrency: `${concurrency}` });
    const of = [...layers(3, 200_000), ...layers(2, 3_000_000), ...layers(3, 200_000)];
    const transfer = new Transfer(context, NOTHING_AGAIN);
    const tree = composed(of);
    // The config is tiny, and may go beside the layers: it comes later.
    const plain = blobsOf(tree).filter((blob) => blob.plain);
    if (kind === 'store') await transfer.fromStore(storeOf(of), plain);
    else await transfer.fromStream(streamOf(of), everything);
    await transfer.finished();
    transfer.know(tree);
    await transfer.locate(blobsOf(tree));
    await transfer.finished();
    for (const layer of of) expectLayer(registry, transfer, layer);
    expect(most).toBe(concurrency);
  });
});

describe('a store', () => {
  it('is never asked for what the registry has', async () => {
    const served = new Served();
    const registry = await registryForTest({ quirks: [served.quirk] });
    const of = layers(3);
    served.add('team/app', 'v1', await putBlobs(registry, 'team/app', of.slice(0, 2)));
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1` });
    const transfer = new Transfer(context, NOTHING_AGAIN);
    const source = storeOf(of);
    await transfer.fromStore(source, blobsOf(source.tree));
    await transfer.finished();
    expect(source.opened).toEqual([of[2]?.diffId]);
  });

  it('with sixty known layers costs sixty HEADs at once where there are connections, not one after the other', async () => {
    const waiting: (() => void)[] = [];
    let answersAtOnce = false;
    const slow: Quirk = {
      name: 'answers no HEAD before sixty have come',
      before: async ({ route }) => {
        if (route.step !== 'blob-head' || answersAtOnce) return undefined;
        await new Promise<void>((answer) => {
          waiting.push(answer);
          if (waiting.length < 60) return;
          answersAtOnce = true;
          for (const each of waiting) each();
        });
        return undefined;
      },
    };
    const served = new Served();
    const registry = await registryForTest({ quirks: [served.quirk, slow] });
    const of = layers(60, 100);
    served.add('team/app', 'v1', await putBlobs(registry, 'team/app', of));
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1`, concurrency: '60' });
    const transfer = new Transfer(context, NOTHING_AGAIN);
    await transfer.locate(blobsOf(composed(of)));
    expect(of.every(({ diffId }: { diffId: Digest }) => transfer.isTaken(diffId))).toBe(true);
    expect(registry.requests.filter(({ step }) => step === 'blob-head')).toHaveLength(61);
    expect(answersAtOnce).toBe(true);
  });

  it('is asked about once, when a blob is sent as soon as the registry has said that it lacks it', async () => {
    const registry = await registryForTest();
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1` });
    const tree = composed([]);
    const transfer = new Transfer(context, NOTHING_AGAIN);
    transfer.know(tree);
    await transfer.locate(blobsOf(tree));
    await transfer.finished();
    expect(registry.requests.filter(({ step }) => step === 'blob-head')).toHaveLength(1);
    expect(registry.blobs('team/app')).toHaveLength(1);
  });
});
