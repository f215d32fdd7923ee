import { describe, expect, it, onTestFinished } from 'vitest';
import { type Digest, digestOf, type Manifest, MediaType } from '../../src/oci/types.ts';
import { mountSources } from '../../src/push/known-layers.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import { composed, contextForTest, type PlainLayer, plainLayer, putBlobs, registryForTest, Served } from './bench.ts';

const LAYERS = ['one', 'two', 'three'].map((text) => plainLayer(Buffer.from(text.repeat(100))));
const [ONE, TWO] = LAYERS as [PlainLayer, PlainLayer, PlainLayer];

/** Learns for a push to team/app:v1 from what `prepare` put there. */
const learn = async (
  prepare: (at: { served: Served; manifest: Manifest; config: (bytes: Buffer) => Promise<Manifest> }) => unknown,
  inputs: Readonly<Record<string, string>> = {},
) => {
  const served = new Served();
  const registry = await registryForTest({ quirks: [served.quirk] });
  const config = (bytes: Buffer) => putBlobs(registry, 'team/app', LAYERS, bytes);
  await prepare({ served, manifest: await putBlobs(registry, 'team/app', LAYERS), config });
  const { context, events } = await contextForTest({ tags: `${registry.host}/team/app:v1`, ...inputs });
  await context.earlier.read();
  return {
    context,
    events,
    registry,
    candidates: LAYERS.map(({ diffId }) => context.known.candidates(diffId)),
  };
};

describe('an image pushed earlier', () => {
  it('pairs diffIDs with blobs position by position', async () => {
    let manifest: Manifest | undefined;
    const { candidates, context, registry } = await learn(({ served, manifest: told }) => {
      manifest = told;
      served.add('team/app', 'v1', told);
    });
    expect(candidates).toEqual(manifest?.layers.map((layer) => [layer]));
    expect(context.known.repositories(registry.host, manifest?.layers[0]?.digest as Digest)).toEqual(['team/app']);
  });

  it('is looked for under latest too, and what the own tag says comes first', async () => {
    const [a, b] = [digestOf(Buffer.from('a')), digestOf(Buffer.from('b'))];
    const { candidates } = await learn(({ served, manifest }) => {
      const firstLayerAs = (digest: Digest) => ({
        ...manifest,
        layers: manifest.layers.map((layer, index) => (index === 0 ? { ...layer, digest } : layer)),
      });
      served.add('team/app', 'latest', firstLayerAs(b));
      served.add('team/app', 'v1', firstLayerAs(a));
    });
    expect(candidates[0]?.map(({ digest }) => digest)).toEqual([a, b]);
  });

  it('may be an index', async () => {
    const { candidates } = await learn(({ served, manifest }) => {
      const digest = served.add('team/app', 'child', manifest);
      const child = { mediaType: MediaType.ociManifest, digest, size: 1 };
      served.add('team/app', 'v1', { schemaVersion: 2, manifests: [child] }, MediaType.ociIndex);
    });
    expect(candidates.map(({ length }) => length)).toEqual([1, 1, 1]);
  });

  it('teaches nothing of another compression', async () => {
    const { candidates } = await learn(({ served, manifest }) => served.add('team/app', 'v1', manifest), {
      compression: 'zstd',
    });
    expect(candidates).toEqual([[], [], []]);
  });

  it('is not looked for in another registry than the one that is pushed to', async () => {
    const { events, registry } = await learn(() => {}, { 'cache-from': 'registry.invalid/team/app:v1' });
    expect(registry.requests.filter(({ step }) => step === 'manifest-get')).toEqual([]);
    expect(events.texts('debug').join()).toContain('cache-from names no image');
  });
});

describe('an image pushed earlier with the config of this one', () => {
  /** Its tag names the very image; `latest` is answered when the test says so. */
  const same = async () => {
    const latest = Promise.withResolvers<void>();
    const held: Quirk = {
      name: 'takes its time over latest',
      before: async ({ route: { step, reference } }) => {
        if (step === 'manifest-get' && reference === 'latest') await latest.promise;
        return undefined;
      },
    };
    const served = new Served();
    const registry = await registryForTest({ quirks: [held, served.quirk] });
    onTestFinished(() => latest.resolve());
    const manifest = await putBlobs(registry, 'team/app', LAYERS);
    served.add('team/app', 'v1', manifest);
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1` });
    context.earlier.config = { digest: manifest.config.digest, diffIds: LAYERS.map(({ diffId }) => diffId) };
    return { context, registry, manifest };
  };

  it('explains all layers without its config, and without waiting for others', async () => {
    const { context, registry, manifest } = await same();
    await context.earlier.read();
    expect(LAYERS.map(({ diffId }) => context.known.candidates(diffId))).toEqual(
      manifest.layers.map((layer) => [layer]),
    );
    expect(registry.requests.filter(({ step }) => step === 'blob-get')).toEqual([]);
  });

  it('is asked for once, whatever it is needed for', async () => {
    const { context, registry } = await same();
    const { repository, signal } = context.registries[0]!.repositories[0]!;
    await Promise.all([context.earlier.read(), context.documents.descriptor(repository, 'v1', signal)]);
    await context.documents.manifest(repository, 'v1', signal);
    expect(registry.requests.filter(({ path }) => path.endsWith('/manifests/v1'))).toHaveLength(1);
  });
});

describe('an image that lies', () => {
  const layersWith = (manifest: Manifest, first: object) => ({
    ...manifest,
    layers: [{ ...manifest.layers[0], ...first }, ...manifest.layers.slice(1)],
  });
  const nothing = [[], [], []];

  it.each<[string, (manifest: Manifest) => unknown]>([
    ['no JSON', () => Buffer.from('<html>')],
    ['an empty document', () => ({})],
    ['null', () => null],
    ['layers that are no list', (manifest) => ({ ...manifest, layers: { length: 3 } })],
    ['layers that are null', (manifest) => ({ ...manifest, layers: [null, null, null] })],
    ['fewer layers than the config', (manifest) => ({ ...manifest, layers: manifest.layers.slice(1) })],
    ['a config that is not there', (manifest) => ({ ...manifest, config: { ...manifest.config, digest: ONE.diffId } })],
    [
      'a config with a path for a digest',
      (manifest) => ({ ...manifest, config: { ...manifest.config, digest: '../x' } }),
    ],
  ])('with %s teaches nothing', async (_, lie) => {
    const { candidates } = await learn(({ served, manifest }) => served.add('team/app', 'v1', lie(manifest)));
    expect(candidates).toEqual(nothing);
  });

  it.each<[string, object]>([
    ['a negative size', { size: -1 }],
    ['a size that is text', { size: '12' }],
    ['a size beyond all numbers', { size: 1e300 }],
    ['no media type', { mediaType: undefined }],
    ['a digest that is none', { digest: 'sha256:../../etc/passwd' }],
    ['a foreign layer', { mediaType: MediaType.dockerForeignLayer }],
  ])('with %s teaches nothing of that layer', async (_, lie) => {
    const { candidates } = await learn(({ served, manifest }) =>
      served.add('team/app', 'v1', layersWith(manifest, lie)),
    );
    expect(candidates[0]).toEqual([]);
    expect(candidates[1]).toHaveLength(1);
  });

  it.each<[string, Buffer]>([
    ['no JSON', Buffer.from('not json')],
    ['null', Buffer.from('null')],
    ['no rootfs', Buffer.from('{}')],
    ['diffIDs that are none', Buffer.from(JSON.stringify({ rootfs: { diff_ids: ['a', 1, null] } }))],
    ['more diffIDs than layers', composed([...LAYERS, TWO]).config],
  ])('with a config that has %s teaches nothing', async (_, bytes) => {
    const { candidates } = await learn(async ({ served, config }) => served.add('team/app', 'v1', await config(bytes)));
    expect(candidates).toEqual(nothing);
  });

  it.each<[string, unknown]>([
    ['text', 'junk'],
    ['rows that are no descriptors', [null, 1, 'x', {}]],
    ['manifests that are not there', [{ mediaType: MediaType.ociManifest, digest: TWO.diffId, size: 3 }]],
  ])('as an index of %s teaches nothing', async (_, manifests) => {
    const { candidates } = await learn(({ served }) =>
      served.add('team/app', 'v1', { schemaVersion: 2, manifests }, MediaType.ociIndex),
    );
    expect(candidates).toEqual(nothing);
  });

  it('as indexes of indexes is not followed: they could multiply without end', async () => {
    const { candidates, registry } = await learn(({ served, manifest }) => {
      let digest = served.add('team/app', 'deepest', manifest);
      let mediaType: string = MediaType.ociManifest;
      for (let depth = 0; depth < 12; depth += 1) {
        const manifests = Array.from({ length: 8 }, () => ({ mediaType, digest, size: 1 }));
        mediaType = MediaType.ociIndex;
        digest = served.add('team/app', 'v1', { schemaVersion: 2, manifests, depth }, mediaType);
        // What an index says of its children need not be true.
        mediaType = MediaType.ociManifest;
      }
    });
    expect(candidates).toEqual(nothing);
    expect(registry.requests.length).toBeLessThan(20);
  });

  it('with another blob for a layer is a hint like any other: that the blob is there, and how long, is asked', async () => {
    const { context } = await learn(({ served, manifest }) =>
      served.add('team/app', 'v1', layersWith(manifest, { size: 5 })),
    );
    const { findExisting } = await import('../../src/push/plan.ts');
    const { uncompressedLayer } = await import('../../src/push/image-blobs.ts');
    expect(await findExisting(context, uncompressedLayer(ONE.diffId))).toBeUndefined();
    expect(await findExisting(context, uncompressedLayer(TWO.diffId))).toMatchObject({ size: expect.any(Number) });
  });
});

const FROM = ['a/one', 'team/app/two', 'b/three', 'team/four', 'c/five', 'team/app'];

describe('mountSources', () => {
  it.each([
    [1000, 1],
    [100 * 1024, 1],
    [100 * 1024 + 1, 3],
    [undefined, 3],
    [10 * 1024 * 1024 + 1, 4],
  ])('tries more repositories the more there is to send: %s bytes, %i tries', (size, tries) => {
    expect(mountSources(FROM, 'team/app', size)).toHaveLength(tries);
  });

  it('begins with those that share most of the path, and leaves the repository itself out', () => {
    expect(mountSources(FROM, 'team/app', 2e7)).toEqual(['team/app/two', 'team/four', 'a/one', 'b/three']);
  });
});
