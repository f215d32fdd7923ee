import { describe, expect, it } from 'vitest';
import { type Descriptor, type Digest, digestOf, MediaType } from '../../src/oci/types.ts';
import { documentsOf } from '../../src/push/image-manifests.ts';
import { putManifests } from '../../src/push/put-manifests.ts';
import { commitTo, composed, contextForTest, plainLayer, putBlobs, registryForTest } from './bench.ts';

const LAYERS = [plainLayer(Buffer.from('one')), plainLayer(Buffer.from('two'))];
const TREE = composed(LAYERS);

const compressedOf = (layers: readonly Descriptor[]) =>
  new Map(LAYERS.map(({ diffId }, index) => [diffId, layers[index] as Descriptor]));

describe('documentsOf', () => {
  it('makes a manifest for an image that has none', async () => {
    const registry = await registryForTest();
    const { layers } = await putBlobs(registry, 'team/app', LAYERS);
    const { all, root } = documentsOf(TREE, compressedOf(layers));
    expect(all).toEqual([root]);
    const manifest = JSON.parse(root.bytes.toString());
    expect(manifest).toMatchObject({ mediaType: MediaType.ociManifest, layers });
    expect(manifest.config).toEqual({
      mediaType: MediaType.ociConfig,
      digest: digestOf(TREE.config),
      size: TREE.config.length,
    });
    expect(root.digest).toBe(digestOf(root.bytes));
  });

  it('has the annotations that were asked for in a manifest that it makes', async () => {
    const registry = await registryForTest();
    const { layers } = await putBlobs(registry, 'team/app', LAYERS);
    const { root } = documentsOf(TREE, compressedOf(layers), { 'org.opencontainers.image.version': '1.2' });
    expect(JSON.parse(root.bytes.toString()).annotations).toEqual({ 'org.opencontainers.image.version': '1.2' });
    const { root: plain } = documentsOf(TREE, compressedOf(layers));
    expect('annotations' in JSON.parse(plain.bytes.toString())).toBe(false);
  });

  it('makes none when a layer has no blob', () => {
    expect(() => documentsOf(TREE, new Map())).toThrow(/no compressed blob/);
  });

  it('keeps the documents of an image that has some, the children before the index', () => {
    const manifest = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: MediaType.ociManifest,
        config: { mediaType: MediaType.ociConfig, digest: digestOf(TREE.config), size: TREE.config.length },
        layers: [],
      }),
    );
    const child = { mediaType: MediaType.ociManifest, digest: digestOf(manifest), size: manifest.length };
    const index = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: MediaType.ociIndex, manifests: [child] }, undefined, 3),
    );
    const root = { mediaType: MediaType.ociIndex, digest: digestOf(index), size: index.length };
    const documents = new Map<Digest, Buffer>([
      [root.digest, index],
      [child.digest, manifest],
      [digestOf(TREE.config), TREE.config],
    ]);
    const made = documentsOf({ kind: 'manifests', root, documents, absent: [] }, new Map());
    expect(made.all.map(({ bytes }) => bytes)).toEqual([manifest, index]);
    expect(made.root.bytes).toEqual(index);
  });
});

describe('a commit', () => {
  it('names the blobs that each repository lacks, and puts the rest', async () => {
    const registry = await registryForTest();
    const { context } = await contextForTest({ tags: `${registry.host}/team/app:v1,${registry.host}/other/app:v1` });
    const { layers } = await putBlobs(registry, 'team/app', LAYERS);
    await putBlobs(registry, 'other/app', LAYERS.slice(0, 1), TREE.config);
    const denied = await commitTo(context, TREE, { compressed: compressedOf(layers) });
    expect([...denied].map(([{ repository }, digests]) => [repository.name, digests])).toEqual([
      ['other/app', [layers[1]?.digest]],
    ]);
    expect(registry.tags('team/app')).toEqual(['v1']);
    expect(registry.tags('other/app')).toEqual([]);
    // It may still be mended.
    expect(context.registries[0]?.active).toHaveLength(2);
  });

  it('ends with the cancelled push', async () => {
    const registry = await registryForTest();
    const { context, cancel } = await contextForTest({ tags: `${registry.host}/team/app:v1` });
    const { layers } = await putBlobs(registry, 'team/app', LAYERS);
    cancel.abort(new Error('enough'));
    const documents = documentsOf(TREE, compressedOf(layers));
    const [target] = context.registries[0]?.repositories ?? [];
    await expect(putManifests([{ target: target!, documents }], context)).rejects.toThrow('enough');
    expect(registry.tags('team/app')).toEqual([]);
  });
});
