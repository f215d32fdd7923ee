/** Of an image that is compressed here, what the registry says of the lowest layer tells of the tiny ones above it. */
import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import type { PushContext } from '../../src/push/context.ts';
import { blobsOf, NOTHING_AGAIN } from '../../src/push/image-blobs.ts';
import { Transfer } from '../../src/push/transfer.ts';
import { refusal } from '../support/registry/answer.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import type { Registry } from '../support/registry/server.ts';
import { composed, contextForTest, type PlainLayer, plainLayer, registryForTest, storeOf } from './bench.ts';

const KB = 1000;
const layers = (...sizes: number[]) => sizes.map((bytes) => plainLayer(randomBytes(bytes)));

const transferOf = async (context: PushContext, of: readonly PlainLayer[], seed = 'this'): Promise<Transfer> => {
  const transfer = new Transfer(context, NOTHING_AGAIN);
  const tree = composed(of, seed);
  transfer.know(tree);
  await transfer.fromStore(storeOf(of), blobsOf(tree));
  await transfer.locate(blobsOf(tree).filter(({ plain }) => !plain));
  await transfer.finished();
  return transfer;
};

/** Another image of these layers has been pushed, by digest. */
const pushed = async (registry: Registry, of: readonly PlainLayer[]): Promise<Transfer> =>
  transferOf((await contextForTest({ tags: `${registry.host}/team/app:other` })).context, of, 'other');

/** No session is opened before as many blobs were asked for. */
const opensAfter = (heads: number): Quirk => {
  const asked = Promise.withResolvers<void>();
  let count = 0;
  return {
    name: 'opens sessions late',
    before: async ({ route }) => {
      if (route.step === 'blob-head' && ++count === heads) asked.resolve();
      if (route.step === 'upload-post') await asked.promise;
      return undefined;
    },
  };
};

const requests = (registry: Registry, step: string) => registry.requests.filter((one) => one.step === step).length;

/** The config is asked for too. */
const CONFIG = 1;

it('where the lowest is absent, the tiny ones above it are not asked for; larger ones are', async () => {
  const registry = await registryForTest({ quirks: [opensAfter(CONFIG + 2)] });
  const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1` });
  const of = layers(20 * KB, 200 * KB, 20 * KB, 30 * KB, 40 * KB);
  const transfer = await transferOf(context, of);
  expect(transfer.compressed.size).toBe(of.length);
  expect(registry.blobs('team/app')).toHaveLength(of.length + 1);
  expect(requests(registry, 'blob-head')).toBe(CONFIG + 2);
  expect(requests(registry, 'upload-post')).toBe(of.length + CONFIG);
});

it('where the lowest is there, though nothing told so, no tiny one that is there is sent again', async () => {
  const registry = await registryForTest();
  const of = layers(20 * KB, 20 * KB, 30 * KB, 40 * KB);
  await pushed(registry, of.slice(0, 3));
  const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1` });
  registry.requests.length = 0;
  await transferOf(context, of);
  // The top layer and the config.
  expect(requests(registry, 'upload-put')).toBe(2);
  expect(context.stats.blobs.filter(({ what }) => what === 'exists')).toHaveLength(3);
  await expect.poll(() => registry.openSessions()).toBe(0);
});

it.each([
  [
    'is asked for in vain',
    (): Quirk => ({
      name: 'keeps the first answer to itself',
      before: ({ route, method }) =>
        method === 'HEAD' && route.step === 'blob-head' ? refusal(403, 'DENIED', 'no HEAD here') : undefined,
    }),
  ],
  ['is mounted', (): Quirk => ({ name: 'nothing special' })],
])('an image whose lowest layer %s comes complete', async (_, quirk) => {
  const registry = await registryForTest({ quirks: [quirk()] });
  const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1,${registry.host}/team/other:v1` });
  const of = layers(20 * KB, 30 * KB, 40 * KB);
  await transferOf(context, of);
  for (const name of ['team/app', 'team/other']) expect(registry.blobs(name)).toHaveLength(of.length + 1);
  expect(registry.openSessions()).toBe(0);
});

it('in two registries, each by its own answer', async () => {
  const [empty, full] = [await registryForTest(), await registryForTest()];
  const of = layers(20 * KB, 20 * KB, 30 * KB);
  await pushed(full, of);
  const { context } = await contextForTest({ tags: `${empty.host}/team/app:v1,${full.host}/team/app:v1` });
  full.requests.length = 0;
  await transferOf(context, of);
  expect(empty.blobs('team/app')).toHaveLength(of.length + 1);
  // The config.
  expect(requests(full, 'upload-put')).toBe(1);
});

it('a tiny one whose session can not be opened is asked for all the same', async () => {
  let isReadOnly = false;
  const readOnly: Quirk = {
    name: 'may become read-only',
    before: ({ route }) =>
      isReadOnly && route.step === 'upload-post' ? refusal(403, 'DENIED', 'read-only') : undefined,
  };
  const registry = await registryForTest({ quirks: [readOnly] });
  const of = layers(20 * KB, 20 * KB, 30 * KB);
  await pushed(registry, of);
  isReadOnly = true;
  const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1` });
  const transfer = new Transfer(context, NOTHING_AGAIN);
  transfer.know(composed(of));
  await transfer.fromStore(
    storeOf(of),
    blobsOf(composed(of)).filter((blob) => blob.plain),
  );
  await transfer.finished();
  expect(context.stats.blobs.map(({ what }) => what)).toEqual(['exists', 'exists', 'exists']);
});
