import { describe, expect, it } from 'vitest';
import { ImageError } from '../../src/common/error.ts';
import { MediaType } from '../../src/oci/types.ts';
import { walk } from '../../src/oci/walk.ts';
import { amd64, blob, digests, Making, threePlatforms } from './trees.ts';

describe('walk', () => {
  it('gives children before their index, the root last, each blob once', () => {
    const { tree, one, two, about1, about2, three, nested, root } = threePlatforms();
    const walked = walk(tree);
    expect(digests(walked.documents)).toEqual(
      [one, two, about1, about2, three, nested, root].map(({ digest }) => digest),
    );
    expect(walked.manifests.map(({ attests }) => attests)).toEqual([
      undefined,
      undefined,
      one.digest,
      two.digest,
      undefined,
    ]);
    expect(new Set(walked.blobs.map(({ digest }) => digest)).size).toBe(walked.blobs.length);
    expect(walked.blobs).toHaveLength(5 + 2 + 2);
  });

  it('keeps foreign layers out of the blobs, and reads a platform from the config where an index has none', () => {
    const making = new Making();
    const foreign = { ...blob('base', MediaType.dockerForeignLayer), urls: ['https://mcr.example/base'] };
    const image = making.image({ os: 'windows', architecture: 'amd64' }, [foreign, blob('a')]);
    const { platform: _, ...bare } = image;
    const walked = walk(making.tree(making.index([bare])));
    expect(walked.manifests[0]).toMatchObject({ platform: { os: 'windows', architecture: 'amd64' }, isImage: true });
    expect(walked.blobs.map(({ digest }) => digest)).not.toContain(foreign.digest);
  });

  it('reads artifacts: any config, any layers', () => {
    const making = new Making();
    const weights = blob('weights', 'application/vnd.example.weights');
    const config = { ...blob('{}', 'application/vnd.oci.empty.v1+json'), data: 'e30=' };
    const artifact = making.add(
      { schemaVersion: 2, artifactType: 'application/x', config, layers: [weights] },
      MediaType.ociManifest,
    );
    expect(walk(making.tree(artifact))).toMatchObject({ manifests: [{ isImage: false }], blobs: [config, weights] });
  });

  it.each<[string, object, RegExp]>([
    [
      'an index that is a manifest too',
      { schemaVersion: 2, manifests: [], config: blob('a'), layers: [] },
      /ambiguous/,
    ],
    ['schema 1', { schemaVersion: 1, fsLayers: [] }, /schemaVersion 1 instead of 2/],
    ['layers that are no list', { schemaVersion: 2, config: blob('a'), layers: {} }, /a list is missing/],
    [
      'a layer without size',
      { schemaVersion: 2, config: blob('a'), layers: [{ ...blob('b'), size: '1' }] },
      /its size "1" is no number/,
    ],
    ['a negative size', { schemaVersion: 2, config: { ...blob('a'), size: -1 }, layers: [] }, /its size -1/],
    [
      'a digest that is a path',
      { schemaVersion: 2, config: { ...blob('a'), digest: '../../x' }, layers: [] },
      /its digest "\.\.\/\.\.\/x"/,
    ],
    [
      'annotations that are no texts',
      { schemaVersion: 2, config: { ...blob('a'), annotations: { a: 1 } }, layers: [] },
      /annotations/,
    ],
    [
      'an absurd number of layers',
      { schemaVersion: 2, config: blob('a'), layers: Array(10_001).fill(0) },
      /10001 entries/,
    ],
    ['neither', { hello: 'world' }, /schemaVersion undefined/],
  ])('refuses %s', (_, document, message) => {
    const making = new Making();
    const root = making.add(document, MediaType.ociManifest);
    expect(() => walk({ kind: 'manifests', root, documents: making.documents, absent: [] })).toThrow(message);
    expect(() => making.tree(root)).toThrow(ImageError);
  });

  it('refuses indexes nested without end', () => {
    const making = new Making();
    let root = making.image(amd64, []);
    for (let i = 0; i < 40; i += 1) root = making.index([root]);
    expect(() => making.tree(root)).toThrow(/more than 16 deep/);
  });
});
