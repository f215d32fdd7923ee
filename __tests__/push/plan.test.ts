import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type Descriptor, type Digest, digestOf, MediaType } from '../../src/oci/types.ts';
import { uncompressedLayer } from '../../src/push/image-blobs.ts';
import { findExisting } from '../../src/push/plan.ts';
import { refusal } from '../support/registry/answer.ts';
import { contextForTest, registryForTest } from './bench.ts';

const DIFF_ID = digestOf(Buffer.from('a layer'));
const BLOB = randomBytes(3000);
const layerOf = (digest: string, size: number): Descriptor => ({
  mediaType: MediaType.ociLayerGzip,
  digest: digest as Digest,
  size,
});
const piece = uncompressedLayer(DIFF_ID);

describe('a hint', () => {
  it('counts when the registry has the blob, and is entered in the books', async () => {
    const registry = await registryForTest();
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1` });
    const layer = layerOf(await registry.addBlob('team/app', BLOB), BLOB.length);
    context.known.add(DIFF_ID, layer);
    expect(await findExisting(context, piece)).toEqual(layer);
    expect(context.stats.blobs).toMatchObject([
      { digest: layer.digest, diffId: DIFF_ID, what: 'exists', bytesSent: 0 },
    ]);
  });

  it('does not count when the registry lacks the blob; the next one may', async () => {
    const registry = await registryForTest();
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1` });
    context.known.add(DIFF_ID, layerOf(digestOf(Buffer.from('gone')), 9));
    expect(await findExisting(context, piece)).toBeUndefined();
    const layer = layerOf(await registry.addBlob('team/app', BLOB), BLOB.length);
    context.known.add(DIFF_ID, layer);
    expect(await findExisting(context, piece)).toEqual(layer);
  });

  it('with another size than the registry tells is not used', async () => {
    const registry = await registryForTest();
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1` });
    context.known.add(DIFF_ID, layerOf(await registry.addBlob('team/app', BLOB), BLOB.length - 1));
    expect(await findExisting(context, piece)).toBeUndefined();
  });

  it('counts on serverless-registry, which shows a mounted blob with the size of a link', async () => {
    const registry = await registryForTest({ profile: 'serverless' });
    const tags = `${registry.host}/team/app:v1`;
    const layer = layerOf(await registry.addBlob('base/image', BLOB), BLOB.length);
    const first = await contextForTest({ tags });
    first.context.known.add(DIFF_ID, layer);
    first.context.known.addRepository(registry.host, layer.digest, 'base/image');
    expect(await findExisting(first.context, piece)).toEqual(layer);
    expect(first.context.stats.blobs).toMatchObject([{ what: 'mounted' }]);
    const second = await contextForTest({ tags });
    second.context.known.add(DIFF_ID, layer);
    expect(await findExisting(second.context, piece)).toEqual(layer);
    expect(second.context.stats.blobs).toMatchObject([{ what: 'exists' }]);
  });

  it('counts only when every registry has the blob', async () => {
    const [one, two] = [await registryForTest(), await registryForTest()];
    const { context } = await contextForTest({ tags: `${one.host}/team/app:v1,${two.host}/team/app:v1` });
    const layer = layerOf(await one.addBlob('team/app', BLOB), BLOB.length);
    context.known.add(DIFF_ID, layer);
    expect(await findExisting(context, piece)).toBeUndefined();
    await two.addBlob('team/app', BLOB);
    expect(await findExisting(context, piece)).toEqual(layer);
  });

  it('counts when a repository that can not be asked has failed, for the others', async () => {
    const locked = {
      name: 'locks one repository',
      before: ({ route }: { route: { repository: string } }) =>
        route.repository === 'locked/app' ? refusal(401, 'UNAUTHORIZED', 'who are you?') : undefined,
    };
    const registry = await registryForTest({ quirks: [locked] });
    const { context } = await contextForTest({ tags: `${registry.host}/locked/app:v1,${registry.host}/team/app:v1` });
    const layer = layerOf(await registry.addBlob('team/app', BLOB), BLOB.length);
    context.known.add(DIFF_ID, layer);
    expect(await findExisting(context, piece)).toEqual(layer);
    expect(context.registries[0]?.active.map(({ repository }) => repository.name)).toEqual(['team/app']);
  });
});
