import { describe, expect, it } from 'vitest';
import { withReferrers } from '../../src/oci/image-tree.ts';
import { composeManifest, rewriteTree } from '../../src/oci/rewrite.ts';
import { type Descriptor, type Digest, digestOf, type Index, type Manifest, MediaType } from '../../src/oci/types.ts';
import { walk } from '../../src/oci/walk.ts';
import { DOCKER28, fixture, readAll, streamOf } from '../source/fixtures.ts';
import { amd64, arm64, blob, Making, plain, threePlatforms } from './trees.ts';

describe('rewriteTree', () => {
  const replacements = new Map<Digest, Descriptor>([
    [plain('one').digest, blob('one gz')],
    [plain('two').digest, blob('two gz')],
  ]);

  it('gives the very tree when there is nothing to put in', () => {
    const { tree } = threePlatforms();
    expect(rewriteTree(tree, replacements)).toBe(tree);
  });

  it('puts compressed layers in and makes everything above new, attestation marks too', () => {
    const making = new Making();
    const [one, two] = [making.image(amd64, [plain('one'), blob('x'), plain('one')]), making.image(arm64, [blob('y')])];
    const [about1, about2] = [making.attestation(one), making.attestation(two)];
    const signature = making.add(
      { schemaVersion: 2, config: blob('{}', 'application/x'), layers: [plain('two')], subject: one },
      MediaType.ociManifest,
    );
    // The attestation comes before the image that it is about.
    const tree = withReferrers(making.tree(making.index([about1, one, two, about2])), [signature]);
    const walked = walk(rewriteTree(tree, replacements));
    const changed = walked.manifests[1]!;
    expect(changed.manifest.layers.map(({ digest }) => digest)).toEqual(
      [blob('one gz'), blob('x'), blob('one gz')].map(({ digest }) => digest),
    );
    expect(walked.manifests[0]).toMatchObject({
      attests: changed.descriptor.digest,
      bytes: making.documents.get(about1.digest),
    });
    expect(walked.manifests[2]?.bytes).toBe(making.documents.get(two.digest));
    expect(walked.manifests[3]).toMatchObject({ attests: two.digest });
    const [signed] = walked.manifests.slice(-1);
    expect(signed?.manifest.subject?.digest).toBe(changed.descriptor.digest);
    // An artifact's layer of the same bytes is not an image's layer.
    expect(signed?.manifest.layers).toEqual([plain('two')]);
    for (const { descriptor, bytes } of walked.documents) {
      expect(descriptor).toMatchObject({ digest: digestOf(bytes), size: bytes.length });
    }
    const index = JSON.parse(walked.root.bytes.toString()) as Index;
    expect(index.manifests.map(({ platform }) => platform?.architecture)).toEqual([
      'unknown',
      'amd64',
      'arm64',
      'unknown',
    ]);
    expect(walked.documents).not.toContainEqual(
      expect.objectContaining({ descriptor: expect.objectContaining({ digest: one.digest }) }),
    );
  });

  it('makes OCI manifests of Docker ones that change, and leaves the others', () => {
    const making = new Making();
    const docker = (layers: Descriptor[]) => {
      const config = making.add({ ...amd64, rootfs: { type: 'layers', diff_ids: [] } }, MediaType.dockerConfig);
      return making.add(
        { schemaVersion: 2, mediaType: MediaType.dockerManifest, config, layers },
        MediaType.dockerManifest,
      );
    };
    const foreign = { ...blob('base', MediaType.dockerForeignLayer), urls: ['https://mcr.example/base'] };
    const changes = docker([
      foreign,
      { ...plain('one'), mediaType: MediaType.dockerLayer },
      blob('g', MediaType.dockerLayerGzip),
    ]);
    const stays = docker([blob('g', MediaType.dockerLayerGzip)]);
    const list = making.add(
      { schemaVersion: 2, mediaType: MediaType.dockerList, manifests: [changes, stays] },
      MediaType.dockerList,
    );
    const tree = rewriteTree(making.tree(list), replacements);
    const walked = walk(tree);
    expect(tree.root.mediaType).toBe(MediaType.ociIndex);
    expect(walked.manifests.map(({ descriptor }) => descriptor.mediaType)).toEqual([
      MediaType.ociManifest,
      MediaType.dockerManifest,
    ]);
    const { manifest } = walked.manifests[0]!;
    expect(manifest.mediaType).toBe(MediaType.ociManifest);
    expect(manifest.config.mediaType).toBe(MediaType.ociConfig);
    expect(manifest.layers.map(({ mediaType }) => mediaType)).toEqual([
      'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
      MediaType.ociLayerGzip,
      MediaType.ociLayerGzip,
    ]);
    expect(manifest.layers[0]?.urls).toEqual(foreign.urls);
    expect(walked.manifests[1]?.bytes).toBe(making.documents.get(stays.digest));
  });

  it('makes the bytes of composeManifest, whichever way the image came', async () => {
    const bytes = fixture('docker28-overlay2.tar');
    const source = streamOf(bytes, { name: 'fx:one', imageId: DOCKER28.config, diffIds: DOCKER28.diffIds });
    await readAll(source);
    const composed = source.tree();
    const byManifest = streamOf(bytes, { name: 'fx:one', imageId: OVERLAY2_MANIFEST, diffIds: DOCKER28.diffIds });
    await readAll(byManifest);
    const tree = byManifest.tree();
    if (composed?.kind !== 'composed' || tree?.kind !== 'manifests') throw new Error('one of each kind');
    const made = new Map(DOCKER28.diffIds.map((diffId) => [diffId, blob(`gzip of ${diffId}`)]));
    const config = { mediaType: MediaType.ociConfig, digest: DOCKER28.config, size: composed.config.length };
    const manifest = composeManifest(
      config,
      DOCKER28.diffIds.map((diffId) => made.get(diffId)!),
    );
    expect(walk(rewriteTree(tree, made)).root.bytes.equals(manifest)).toBe(true);
    expect(Object.keys(JSON.parse(manifest.toString()) as Manifest)).toEqual([
      'schemaVersion',
      'mediaType',
      'config',
      'layers',
    ]);
  });

  it('keeps annotations and unknown fields of what it rewrites', () => {
    const making = new Making();
    const layer = { ...plain('one'), annotations: { a: 'b' }, data: 'AAAA' };
    const image = making.image(amd64, [layer], { annotations: { c: 'd' }, 'x-other': [1, { y: null }] });
    const { manifest } = walk(rewriteTree(making.tree(image), replacements)).manifests[0]!;
    expect(manifest).toMatchObject({ annotations: { c: 'd' }, 'x-other': [1, { y: null }] });
    expect(manifest.layers[0]).toEqual({ ...blob('one gz'), annotations: { a: 'b' } });
  });
});

/** The OCI manifest, of uncompressed layers, that Docker 28 with overlay2 writes beside its config. */
const OVERLAY2_MANIFEST: Digest = 'sha256:d21a28e569210c900cee205b0e97284d90a22fd70b43805c4e40b1e293763702';
