import { describe, expect, it } from 'vitest';
import { ImageError } from '../../src/oci/error.ts';
import { buildTree, type ManifestTree, withoutManifests, withReferrers } from '../../src/oci/image-tree.ts';
import { selectPlatforms } from '../../src/oci/platforms.ts';
import { composeManifest, rewriteTree } from '../../src/oci/rewrite.ts';
import {
  type Descriptor,
  type Digest,
  digestOf,
  type Index,
  type Manifest,
  MediaType,
  type Platform,
} from '../../src/oci/types.ts';
import { walk } from '../../src/oci/walk.ts';
import { CONTAINERD, DOCKER28, fixture, readAll, streamOf } from '../source/fixtures.ts';
import { randomOf } from '../source/random.ts';

/** Documents that a test makes, and descriptors of them. */
class Making {
  readonly documents = new Map<Digest, Buffer>();

  add(value: object, mediaType: string, more: object = {}): Descriptor {
    const bytes = Buffer.from(JSON.stringify(value, null, 2));
    this.documents.set(digestOf(bytes), bytes);
    return { mediaType, digest: digestOf(bytes), size: bytes.length, ...more };
  }

  image(platform: Platform, layers: Descriptor[], more: object = {}): Descriptor {
    const config = this.add({ ...platform, rootfs: { type: 'layers', diff_ids: [] } }, MediaType.ociConfig);
    return this.add(
      { schemaVersion: 2, mediaType: MediaType.ociManifest, config, layers, ...more },
      MediaType.ociManifest,
      { platform },
    );
  }

  attestation(of: Descriptor): Descriptor {
    const config = this.add({ of: of.digest }, MediaType.ociConfig);
    const annotations = {
      'vnd.docker.reference.digest': of.digest,
      'vnd.docker.reference.type': 'attestation-manifest',
    };
    const layers = [blob(`statement about ${of.digest}`, 'application/vnd.in-toto+json')];
    return this.add({ schemaVersion: 2, mediaType: MediaType.ociManifest, config, layers }, MediaType.ociManifest, {
      annotations,
      platform: { os: 'unknown', architecture: 'unknown' },
    });
  }

  index(manifests: Descriptor[], more: object = {}): Descriptor {
    return this.add({ schemaVersion: 2, mediaType: MediaType.ociIndex, manifests, ...more }, MediaType.ociIndex);
  }

  tree(root: Descriptor): ManifestTree {
    return buildTree(root, this.documents)!.tree;
  }
}

const blob = (text: string, mediaType: string = MediaType.ociLayerGzip): Descriptor => ({
  mediaType,
  digest: digestOf(Buffer.from(text)),
  size: text.length,
});
const plain = (text: string) => blob(text, MediaType.ociLayer);
const amd64 = { os: 'linux', architecture: 'amd64' };
const arm64 = { os: 'linux', architecture: 'arm64', variant: 'v8' };
const armv7 = { os: 'linux', architecture: 'arm', variant: 'v7' };

/** Three platforms, two of them with attestations, the third in an index of its own. */
function threePlatforms() {
  const making = new Making();
  const [one, two, three] = [
    making.image(amd64, [blob('a')]),
    making.image(arm64, [blob('b')]),
    making.image(armv7, [blob('a')]),
  ];
  const [about1, about2] = [making.attestation(one), making.attestation(two)];
  const nested = making.index([three]);
  const root = making.index([one, two, about1, about2, nested], { annotations: { keep: 'me' } });
  return { making, one, two, three, about1, about2, nested, root, tree: making.tree(root) };
}

const digests = (list: readonly { descriptor: Descriptor }[]) => list.map(({ descriptor }) => descriptor.digest);

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

describe('selectPlatforms', () => {
  it('gives the very tree when everything is there and nothing is asked for, or all of it', () => {
    const { tree } = threePlatforms();
    expect(selectPlatforms(tree, [])).toEqual({ tree, warnings: [] });
    expect(selectPlatforms(tree, ['linux/amd64', 'linux/arm64', 'linux/arm/v7']).tree).toBe(tree);
  });

  it('gives the manifest alone when one platform is asked for', () => {
    const { tree, one, two, three } = threePlatforms();
    expect(selectPlatforms(tree, ['linux/amd64']).tree.root.digest).toBe(one.digest);
    expect(selectPlatforms(tree, ['linux/aarch64']).tree.root.digest).toBe(two.digest);
    expect(selectPlatforms(tree, ['linux/arm']).tree.root.digest).toBe(three.digest);
    expect(selectPlatforms(tree, ['linux/amd64']).tree.root).not.toHaveProperty('platform');
  });

  it('makes a new index of some, with their attestations', () => {
    const { tree, one, two, three, about1, nested, about2 } = threePlatforms();
    const { tree: selected, warnings } = selectPlatforms(tree, ['linux/amd64', 'linux/arm/v7']);
    const walked = walk(selected);
    expect(digests(walked.documents).slice(0, -1)).toEqual([one, about1, three, nested].map(({ digest }) => digest));
    expect(digests(walked.documents)).not.toContain(two.digest);
    expect(digests(walked.documents)).not.toContain(about2.digest);
    expect(digestOf(walked.root.bytes)).toBe(selected.root.digest);
    expect(walked.root.bytes.length).toBe(selected.root.size);
    expect(JSON.parse(walked.root.bytes.toString()).annotations).toEqual({ keep: 'me' });
    expect(warnings).toEqual([]);
    expect(selectPlatforms(selected, ['linux/arm/v7', 'linux/amd64']).tree).toBe(selected);
  });

  it('leaves out what is absent: one left goes alone, several under a new index, none is an error', () => {
    const { tree, one, two, three, about1, about2, nested } = threePlatforms();
    const without = (...gone: Descriptor[]) => withoutManifests(tree, new Set(gone.map(({ digest }) => digest)));
    const alone = selectPlatforms(without(two, nested, about1, about2), []);
    expect(alone.tree.root.digest).toBe(one.digest);
    expect(alone.warnings).toEqual([expect.stringContaining('only linux/amd64 is pushed')]);
    const several = selectPlatforms(without(two, about2), []);
    expect(digests(walk(several.tree).manifests)).toEqual([one, about1, three].map(({ digest }) => digest));
    expect(several.warnings).toEqual([expect.stringContaining('linux/arm64/v8 is left out, and a new index')]);
    expect(() => selectPlatforms(without(one, two, three, about1, about2), [])).toThrow(
      /names linux\/amd64, linux\/arm64\/v8, linux\/arm\/v7, and none/,
    );
    // An attestation that was never pulled with its image: docker pushes the image alone then.
    expect(selectPlatforms(without(about1, two, about2, nested), []).tree.root.digest).toBe(one.digest);
  });

  it('names what is there when a platform is not', () => {
    const { tree, two } = threePlatforms();
    const error = failure(() => selectPlatforms(tree, ['linux/s390x']));
    expect(error).toMatchObject({ step: 'Platform', message: 'the image has no linux/s390x' });
    expect(error.remedy).toBe('choose platforms among linux/amd64, linux/arm64/v8, linux/arm/v7');
    const gone = withoutManifests(tree, new Set([two.digest]));
    expect(failure(() => selectPlatforms(gone, ['linux/arm64'])).message).toBe(
      'the image names linux/arm64, but its content is not here',
    );
    expect(failure(() => selectPlatforms(tree, ['linux'])).remedy).toBe('write it as linux/amd64 or linux/arm/v7');
  });

  it('compares a single manifest with the platform of its config', () => {
    const making = new Making();
    const tree = making.tree(making.image(arm64, [blob('a')]));
    expect(selectPlatforms(tree, ['linux/arm64']).tree).toBe(tree);
    expect(failure(() => selectPlatforms(tree, ['linux/amd64'])).message).toBe('the image has no linux/amd64');
  });

  it('compares an image without a manifest with the platform of its config', () => {
    const config = Buffer.from(JSON.stringify({ ...amd64, rootfs: { type: 'layers', diff_ids: [] } }));
    const tree = { kind: 'composed', config, diffIds: [] } as const;
    expect(selectPlatforms(tree, ['linux/amd64'])).toEqual({ tree, warnings: [] });
    const error = failure(() => selectPlatforms(tree, ['linux/amd64', 'linux/arm64']));
    expect(error).toMatchObject({
      message: 'the image has no linux/arm64',
      remedy: 'choose platforms among linux/amd64',
    });
  });

  it('does not warn of what nobody asked for', () => {
    const { tree, three, nested } = threePlatforms();
    const some = withoutManifests(tree, new Set([three.digest, nested.digest]));
    const { tree: selected, warnings } = selectPlatforms(some, ['linux/amd64', 'linux/arm64']);
    expect(warnings).toEqual([]);
    expect(walk(selected).manifests).toHaveLength(4);
  });

  it('keeps the referrers of what is left', () => {
    const { making, tree, one, two } = threePlatforms();
    const sign = (subject: Descriptor) =>
      making.add(
        { schemaVersion: 2, config: blob('{}', 'application/x'), layers: [blob(`signs ${subject.digest}`)], subject },
        MediaType.ociManifest,
      );
    const [about1, about2] = [sign(one), sign(two)];
    const aboutThat = sign(about1);
    const signed = withReferrers(tree, [aboutThat, about2, about1]);
    expect(signed.referrers).toHaveLength(3);
    expect(digests(walk(signed).documents).indexOf(tree.root.digest)).toBeLessThan(
      digests(walk(signed).documents).indexOf(about1.digest),
    );
    expect(selectPlatforms(signed, ['linux/amd64']).tree.referrers).toEqual([about1, aboutThat]);
    expect(withReferrers(making.tree(two), [about1])).not.toHaveProperty('referrers');
  });
});

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

it('never ends in an error without a name, whatever the documents say', async () => {
  const source = streamOf(fixture('docker28-containerd-multi.tar'), {
    name: 'fx',
    imageId: CONTAINERD.multi,
    diffIds: CONTAINERD.diffIds,
  });
  await readAll(source);
  const whole = source.tree();
  if (whole?.kind !== 'manifests') throw new Error('manifests');
  const random = randomOf('documents');
  const values = [
    null,
    0,
    -1,
    1e99,
    '',
    'x',
    [],
    {},
    [[]],
    true,
    { mediaType: 5 },
    'sha256:',
    CONTAINERD.multi,
    MediaType.ociIndex,
    nested(20_000),
  ];
  let refused = 0;
  for (let round = 0; round < 2000; round += 1) {
    const documents = new Map(
      [...whole.documents].map(([digest, bytes]) => [digest, random(3) ? bytes : garbled(bytes, values, random)]),
    );
    try {
      const built = buildTree(random(4) ? whole.root : whole.root.digest, documents);
      if (!built) continue;
      const { tree } = selectPlatforms(built.tree, random(2) ? [] : ['linux/arm64']);
      walk(rewriteTree(tree, new Map([[CONTAINERD.layers[0]!, blob('z')]])));
    } catch (error) {
      expect(error).toBeInstanceOf(ImageError);
      refused += 1;
    }
  }
  expect(refused).toBeGreaterThan(500);
}, 120_000);

/** A document with one field, anywhere in it, of another value; or bytes that are no JSON. */
function garbled(bytes: Buffer, values: readonly unknown[], random: (below: number) => number): Buffer {
  if (random(10) === 0) return bytes.subarray(0, random(bytes.length));
  const document = JSON.parse(bytes.toString()) as Record<string, unknown>;
  let holder = document;
  for (;;) {
    const keys = Object.keys(holder);
    const key = keys[random(keys.length)];
    if (key === undefined) break;
    const value = holder[key];
    if (value !== null && typeof value === 'object' && random(3)) {
      holder = value as Record<string, unknown>;
      continue;
    }
    holder[key] = values[random(values.length)];
    break;
  }
  return Buffer.from(stringified(document));
}

const DEEP = '"deep"';
const nested = (depth: number): object => ({ toJSON: () => 'deep', depth });
/** JSON.stringify can't write what is nested too deep; an attacker can. */
const stringified = (value: unknown): string =>
  JSON.stringify(value).replace(DEEP, `${'['.repeat(20_000)}${']'.repeat(20_000)}`);

function failure(work: () => unknown): ImageError {
  try {
    work();
  } catch (error) {
    if (error instanceof ImageError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}
