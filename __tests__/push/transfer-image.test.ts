import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import type { ManifestTree } from '../../src/oci/image-tree.ts';
import { type Descriptor, type Digest, digestOf, type Manifest, MediaType } from '../../src/oci/types.ts';
import { transferImage } from '../../src/push/transfer-image.ts';
import type { FoundImage, StoreSource } from '../../src/source/source.ts';
import { refusal } from '../support/registry/answer.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import { composed, contextForTest, plainLayer, registryForTest } from './bench.ts';

const REPOSITORY = 'team/app';
const KB = 1000;

/** Ready layers, as a content store has them. */
const readyLayers = (count: number): Buffer[] => Array.from({ length: count }, () => randomBytes(20 * KB));

const descriptorOf = (bytes: Buffer, mediaType: string): Descriptor => ({
  mediaType,
  digest: digestOf(bytes),
  size: bytes.length,
});

/** The image of these layers in an engine whose content store is open, and what was asked of it. */
function imageOf(layers: readonly Buffer[], options: { layerType?: string; stored?: readonly Buffer[] } = {}) {
  const { config } = composed(layers.map((bytes) => plainLayer(bytes)));
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: MediaType.ociManifest,
    config: descriptorOf(config, MediaType.ociConfig),
    layers: layers.map((bytes) => descriptorOf(bytes, options.layerType ?? MediaType.ociLayerGzip)),
  };
  const bytes = Buffer.from(JSON.stringify(manifest));
  const root = descriptorOf(bytes, MediaType.ociManifest);
  const documents = new Map([bytes, config].map((document) => [digestOf(document), document]));
  const tree: ManifestTree = { kind: 'manifests', root, documents, absent: [] };
  const asked = { read: [] as Digest[], closed: 0, opened: [] as string[] };
  const stored = options.stored ?? layers;
  const store = (description: string): StoreSource => ({
    kind: 'store',
    description,
    tree,
    open: async (digest) => {
      asked.read.push(digest);
      const blob = stored[layers.findIndex((layer) => digestOf(layer) === digest)];
      if (!blob) return undefined;
      const read = (start = 0, end = blob.length) => Readable.from([blob.subarray(start, end)]);
      const format = options.layerType === MediaType.ociLayer ? 'tar' : 'gzip';
      return { size: blob.length, format, seekable: true, bytes: blob, read };
    },
    close: async () => void asked.closed++,
  });
  const found: FoundImage = {
    name: 'app:1',
    imageId: root.digest,
    root: root.digest,
    engine: 'docker',
    documents: async () => tree,
    openStore: async ({ notice }) => {
      notice('the store is read');
      return store('the store at hand');
    },
    open: async ({ withoutStore }) => {
      asked.opened.push(withoutStore ? 'save' : 'store');
      return withoutStore ? { ...storeOfAll(layers, tree), description: 'what save gives' } : store('the store');
    },
  };
  return { found, config, asked };
}

const storeOfAll = (layers: readonly Buffer[], tree: ManifestTree): StoreSource => ({
  kind: 'store',
  description: '',
  tree,
  open: async (digest) => {
    const bytes = layers.find((layer) => digestOf(layer) === digest);
    return bytes && { size: bytes.length, format: 'gzip', seekable: true, bytes, read: () => Readable.from([bytes]) };
  },
  close: async () => {},
});

/** A registry that has these blobs, and the context of a push to it. */
async function bench(present: readonly Buffer[], quirks: readonly Quirk[] = []) {
  const registry = await registryForTest({ quirks });
  for (const bytes of present) await registry.addBlob(REPOSITORY, bytes);
  const { context, events } = await contextForTest({ tags: `${registry.host}/${REPOSITORY}:v1` });
  const phases = () => events.all.flatMap((event) => (event.type === 'phase' ? [event.phase] : []));
  return { registry, context, events, phases };
}

describe('an image whose store is at hand', () => {
  it('sends what is missing before the registry has answered for the rest', async () => {
    const [base, top] = readyLayers(2) as [Buffer, Buffer];
    const arrived = Promise.withResolvers<void>();
    const slow: Quirk = {
      name: 'tells of a layer when the other one has arrived',
      before: async ({ route: { step, reference } }) => {
        if (step === 'blob-head' && reference === digestOf(base)) await arrived.promise;
        return undefined;
      },
      after: (given, { route: { step } }) => {
        if (step === 'upload-put' && given.status === 201) arrived.resolve();
        return given;
      },
    };
    const { found, config, asked } = imageOf([base, top]);
    const { registry, context, events, phases } = await bench([base, config], [slow]);
    const moved = await transferImage(context, found);
    expect(moved.exported).toBe('the store at hand');
    expect(registry.blobs(REPOSITORY)).toContain(digestOf(top));
    expect(asked).toEqual({ read: [digestOf(top)], closed: 1, opened: [] });
    expect(events.texts('info')).toEqual(['the store is read', 'Reading app:1 from the store at hand']);
    expect(phases()).toEqual(['Export', 'Upload']);
  });

  it('asks from the top down, for what has changed lies there', async () => {
    const layers = readyLayers(3);
    const { found, config } = imageOf(layers);
    const { context, events } = await bench([...layers, config]);
    await transferImage(context, found);
    const asked = events.texts('debug').flatMap((line) => /^HEAD .*(sha256:[0-9a-f]+)$/.exec(line)?.[1] ?? []);
    expect(asked).toEqual([config, ...layers.toReversed()].map((bytes) => digestOf(bytes)));
  });

  it('sends large layers when all is known, the largest first', async () => {
    const layers = [3, 4, 2.5].map((mebibytes) => randomBytes(mebibytes * 2 ** 20));
    const { found, asked } = imageOf(layers);
    const { context } = await bench([]);
    await transferImage(context, found);
    expect(asked).toMatchObject({ read: [1, 0, 2].map((index) => digestOf(layers[index]!)), closed: 1, opened: [] });
  });

  it('does not ask twice for what it was told is missing', async () => {
    const layers = readyLayers(3);
    const { found } = imageOf(layers);
    const { registry, context } = await bench(layers.slice(0, 2));
    await transferImage(context, found);
    expect(registry.requests.filter(({ step }) => step === 'blob-head')).toHaveLength(4);
  });

  it('is not read, and nothing is told of it, when only a config is missing', async () => {
    const layers = readyLayers(2);
    const { found, config, asked } = imageOf(layers);
    const { registry, context, events, phases } = await bench(layers);
    expect((await transferImage(context, found)).exported).toBe('nothing');
    expect(registry.blobs(REPOSITORY)).toContain(digestOf(config));
    expect(asked).toEqual({ read: [], closed: 1, opened: [] });
    expect(events.texts('info')).toEqual(['Nothing to export: the registry and the cache have every layer']);
    expect(phases()).toEqual(['Export', 'Upload']);
  });

  it('is closed unread when nothing is missing', async () => {
    const layers = readyLayers(2);
    const { found, config, asked } = imageOf(layers);
    const { context, phases } = await bench([...layers, config]);
    expect((await transferImage(context, found)).exported).toBe('nothing');
    expect(asked).toEqual({ read: [], closed: 1, opened: [] });
    expect(phases()).toEqual(['Export', 'Upload']);
  });

  it('leaves an image with a layer to compress to the export', async () => {
    const { found, asked } = imageOf(readyLayers(2), { layerType: MediaType.ociLayer });
    const { context } = await bench([]);
    expect((await transferImage(context, found)).exported).toBe('the store');
    expect(asked.opened).toEqual(['store']);
  });

  it('is refused annotations, which its own manifest has no place for', async () => {
    const { found } = imageOf(readyLayers(1));
    const { registry, context } = await bench([]);
    const request = { ...context.request, annotations: { manifest: { a: '1' }, index: {} } };
    await expect(transferImage({ ...context, request }, found)).rejects.toThrow(
      /annotations: the image has a manifest of/,
    );
    expect(registry.blobs(REPOSITORY)).toEqual([]);
  });

  it('gives way to save when it holds other bytes', async () => {
    const layers = readyLayers(2);
    const { found, asked } = imageOf(layers, { stored: [layers[0]!, randomBytes(20 * KB)] });
    const { registry, context, events } = await bench([]);
    expect((await transferImage(context, found)).exported).toBe('what save gives');
    expect(asked).toMatchObject({ closed: 1, opened: ['save'] });
    expect(registry.blobs(REPOSITORY)).toEqual(expect.arrayContaining(layers.map((bytes) => digestOf(bytes))));
    expect(events.texts('debug').join('\n')).toContain(`does not give ${digestOf(layers[1]!)}`);
    expect(registry.requests.filter(({ step }) => step === 'upload-delete')).toHaveLength(1);
  });

  it('is closed when the registry takes nothing', async () => {
    const refuses: Quirk = {
      name: 'refuses uploads',
      before: ({ method }) => (method === 'POST' ? refusal(403, 'DENIED', 'not for you') : undefined),
    };
    const { found, asked } = imageOf(readyLayers(3));
    const { context, events } = await bench([], [refuses]);
    await expect(transferImage(context, found)).rejects.toThrow('not for you');
    expect(asked).toMatchObject({ closed: 1, opened: [] });
    expect(events.texts('info').join()).not.toContain('Nothing to export');
  });
});
