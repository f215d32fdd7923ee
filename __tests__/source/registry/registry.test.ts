import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { selectPlatforms } from '../../../src/oci/platforms.ts';
import { type Descriptor, type Digest, digestOf, MediaType } from '../../../src/oci/types.ts';
import { isUncompressedLayer, walk } from '../../../src/oci/walk.ts';
import { blobsOf } from '../../../src/push/image-blobs.ts';
import { findImage } from '../../../src/source/find/find.ts';
import type { RemoteRepository } from '../../../src/source/registry/blobs.ts';
import type { StoreSource } from '../../../src/source/source.ts';

const signal = new AbortController().signal;

/** A repository in memory. */
class Remote implements RemoteRepository {
  readonly manifests = new Map<string, { descriptor: Descriptor; bytes: Buffer }>();
  readonly blobs = new Map<Digest, Buffer>();
  readonly asked: string[] = [];
  hasRanges = true;
  /** What was asked of blobs. */
  readonly ranges: [start: number, end: number | undefined][] = [];
  /** What the referrers API lists; undefined for a registry without one. */
  api: Map<Digest, Descriptor[]> | undefined;

  blob(bytes: Buffer, mediaType: string): Descriptor {
    const digest = digestOf(bytes);
    this.blobs.set(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  }

  manifest(mediaType: string, content: object, ...tags: readonly string[]): Descriptor {
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...content }, undefined, 1));
    const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.length };
    for (const reference of [...tags, descriptor.digest]) this.manifests.set(reference, { descriptor, bytes });
    return descriptor;
  }

  image(text: string, ...tags: readonly string[]): Descriptor {
    const rootfs = { type: 'layers', diff_ids: [digestOf(Buffer.from(text))] };
    const config = this.blob(
      Buffer.from(JSON.stringify({ os: 'linux', architecture: text, rootfs })),
      MediaType.ociConfig,
    );
    const layers = [this.blob(Buffer.from(text), MediaType.ociLayer)];
    return this.manifest(MediaType.ociManifest, { config, layers }, ...tags);
  }

  signature(subject: Descriptor, text = 'signature'): Descriptor {
    const config = this.blob(Buffer.from('{}'), 'application/vnd.oci.empty.v1+json');
    return this.manifest(MediaType.ociManifest, {
      config,
      layers: [this.blob(Buffer.from(text), 'text/plain')],
      subject,
    });
  }

  async getManifest(reference: string) {
    this.asked.push(reference);
    return this.manifests.get(reference);
  }

  async readBlob(digest: Digest, { start = 0, end }: { start?: number; end?: number }) {
    const bytes = this.blobs.get(digest);
    this.ranges.push([start, end]);
    return bytes && { stream: Readable.from([bytes.subarray(start, end)]), ranges: this.hasRanges };
  }

  async referrers(subject: Digest) {
    this.asked.push(`referrers ${subject}`);
    return this.api && (this.api.get(subject) ?? []);
  }
}

const find = (remote: RemoteRepository, image = 'docker://registry.example/team/app:1') =>
  findImage({ image, engine: 'auto', signal, openRepository: async () => remote });

async function open(remote: RemoteRepository, image?: string): Promise<StoreSource> {
  const source = await (await find(remote, image)).open({ signal, debug: () => {}, notice: () => {} });
  if (source.kind !== 'store') throw new Error('a registry is a store');
  return source;
}

const digests = (store: StoreSource) => walk(store.tree as never).documents.map(({ descriptor }) => descriptor.digest);

describe('an image in a registry', () => {
  it('is its manifest byte for byte, whatever its layers are', async () => {
    const remote = new Remote();
    const image = remote.image('amd64', '1');
    const store = await open(remote);
    expect(store.tree).toMatchObject({ root: image });
    expect((store.tree as never as { documents: Map<Digest, Buffer> }).documents.get(image.digest)).toEqual(
      remote.manifests.get('1')!.bytes,
    );
    const [only] = walk(store.tree as never).manifests;
    expect(only!.manifest.layers[0]!.mediaType).toBe(MediaType.ociLayer);
    expect(isUncompressedLayer(only!, 0)).toBe(false);
    for (const blob of walk(store.tree as never).blobs) {
      const stored = (await store.open(blob.digest))!;
      expect(stored.size).toBe(blob.size);
      expect(digestOf(await buffer(stored.read()))).toBe(blob.digest);
    }
    expect(await store.open(digestOf(Buffer.from('other')))).toBeUndefined();
  });

  it('comes with all platforms and attestations, or with those that are chosen', async () => {
    const remote = new Remote();
    const platforms = ['amd64', 'arm64'].map((one) => ({
      ...remote.image(one),
      platform: { os: 'linux', architecture: one },
    }));
    const index = remote.manifest(MediaType.ociIndex, { manifests: platforms }, '1');
    const store = await open(remote);
    expect(digests(store)).toEqual([...platforms.map(({ digest }) => digest), index.digest]);
    const { tree } = selectPlatforms(store.tree, ['linux/arm64']);
    expect(tree).toMatchObject({ root: { digest: platforms[1]!.digest }, isVerbatim: true });
  });

  it('lacks what the index names and the registry has not', async () => {
    const remote = new Remote();
    const [amd64, arm64] = ['amd64', 'arm64'].map((one) => ({
      ...remote.image(one),
      platform: { os: 'linux', architecture: one },
    }));
    remote.manifest(MediaType.ociIndex, { manifests: [amd64, arm64] }, '1');
    remote.manifests.delete(arm64!.digest);
    const store = await open(remote);
    expect(store.tree).toMatchObject({ absent: [{ digest: arm64!.digest }] });
  });

  it.each(['API', 'tags'])('brings what refers to it, and to that in turn: by the %s', async (way) => {
    const remote = new Remote();
    const image = remote.image('amd64', '1');
    const index = remote.manifest(MediaType.ociIndex, { manifests: [image] }, '1');
    const onImage = remote.signature(image, 'of the image');
    const onIndex = remote.signature(index, 'of the index');
    const onSignature = remote.signature(onIndex, 'of the signature');
    const lists = new Map([
      [image, [onImage]],
      [index, [onIndex]],
      [onIndex, [onSignature]],
    ]);
    remote.api = way === 'API' ? new Map([...lists].map(([subject, list]) => [subject.digest, list])) : undefined;
    if (way === 'tags') {
      for (const [subject, manifests] of lists)
        remote.manifest(MediaType.ociIndex, { manifests }, subject.digest.replace(':', '-'));
    }
    const put = digests(await open(remote));
    expect(put.slice(0, 2)).toEqual([image.digest, index.digest]);
    expect(new Set(put.slice(2))).toEqual(new Set([onImage, onIndex, onSignature].map(({ digest }) => digest)));
    const counts = Map.groupBy(remote.asked, (one) => one);
    expect([...counts.values()].filter(({ length }) => length > 1)).toEqual([]);
    // Once it is known which one counts, the other one is not asked.
    const last = onSignature.digest;
    expect(remote.asked.includes(way === 'API' ? last.replace(':', '-') : `referrers ${last}`)).toBe(false);
  });

  it('keeps the URLs of foreign layers, and asks for none of them', async () => {
    const remote = new Remote();
    const config = remote.blob(Buffer.from('{}'), MediaType.dockerConfig);
    const foreign = {
      mediaType: MediaType.dockerForeignLayer,
      digest: digestOf(Buffer.from('x')),
      size: 9,
      urls: ['https://mcr.example/x'],
    };
    const image = remote.manifest(MediaType.dockerManifest, { config, layers: [foreign] }, '1');
    const store = await open(remote);
    expect(walk(store.tree as never).blobs).toEqual([config]);
    expect(digests(store)).toEqual([image.digest]);
  });

  it('is found by digest, and by the tag latest where none is said', async () => {
    const remote = new Remote();
    const image = remote.image('amd64', 'latest');
    expect(await find(remote, `docker://registry.example/app@${image.digest}`)).toMatchObject({ root: image.digest });
    expect(await find(remote, 'docker://registry.example/app')).toMatchObject({ root: image.digest });
  });

  it('is read by as few requests as can be: only what is read again costs another one', async () => {
    const remote = new Remote();
    const text = 'layer '.repeat(100);
    remote.image(text, '1');
    const store = await open(remote);
    const layer = walk(store.tree as never).blobs[1]!;
    const stored = (await store.open(layer.digest))!;
    expect(stored).toMatchObject({ seekable: true, isRemote: true, size: text.length });
    for (const [start, end] of [
      [0, 100],
      [100, 250],
      [200, 600],
    ] as const)
      expect((await buffer(stored.read(start, end))).toString()).toBe(text.slice(start, end));
    expect(remote.ranges).toEqual([
      [0, 600],
      [200, 600],
    ]);
  });

  it('is read in one go where its registry knows no ranges', async () => {
    const remote = new Remote();
    remote.image('layer', '1');
    remote.hasRanges = false;
    const store = await open(remote);
    const stored = (await store.open(walk(store.tree as never).blobs[1]!.digest))!;
    expect(stored.seekable).toBe(false);
    expect((await buffer(stored.read())).toString()).toBe('layer');
    expect(remote.ranges).toHaveLength(1);
  });

  // BuildKit's cache-to type=registry,image-manifest=false.
  it('has the blobs that an index names beside manifests, and never asks for them as manifests', async () => {
    const remote = new Remote();
    const layer = remote.blob(Buffer.from('layer'), MediaType.ociLayerGzip);
    const config = remote.blob(Buffer.from('{"layers":[]}'), 'application/vnd.buildkit.cacheconfig.v0');
    const image = remote.image('amd64');
    const index = remote.manifest(MediaType.ociIndex, { manifests: [layer, image, config] }, '1');
    const store = await open(remote);
    expect(store.tree).toMatchObject({ root: index, absent: [] });
    expect(walk(store.tree as never).blobs).toEqual(expect.arrayContaining([layer, config]));
    expect((await buffer((await store.open(layer.digest))!.read())).toString()).toBe('layer');
    expect(remote.asked).not.toContain(layer.digest);
    expect(selectPlatforms(store.tree, [])).toEqual({ tree: store.tree, warnings: [] });
    expect(blobsOf(store.tree).map(({ key }) => key)).toEqual(expect.arrayContaining([layer.digest, config.digest]));
  });

  it('brings what only the API lists and what only a tag does', async () => {
    const remote = new Remote();
    const image = remote.image('amd64', '1');
    const [listed, tagged] = [remote.signature(image, 'API'), remote.signature(image, 'tag')];
    const onTagged = remote.signature(tagged, 'of the tagged one');
    remote.api = new Map([[image.digest, [listed]]]);
    remote.manifest(MediaType.ociIndex, { manifests: [tagged] }, image.digest.replace(':', '-'));
    remote.manifest(MediaType.ociIndex, { manifests: [onTagged] }, tagged.digest.replace(':', '-'));
    const put = digests(await open(remote));
    expect(new Set(put)).toEqual(new Set([image, listed, tagged, onTagged].map(({ digest }) => digest)));
  });

  it.each(['API', 'tags'])(
    'comes without what refers to it where the %s can not be read, with a warning',
    async (way) => {
      const remote = new Remote();
      const image = remote.image('amd64', '1');
      const broken = async () => {
        throw new Error('500 Internal Server Error');
      };
      if (way === 'API') remote.referrers = broken;
      else {
        const get = remote.getManifest.bind(remote);
        remote.getManifest = async (reference: string) => (reference.startsWith('sha256-') ? broken() : get(reference));
      }
      const warnings: string[] = [];
      const options = { engine: 'auto' as const, signal, openRepository: async () => remote };
      const name = 'docker://registry.example/team/app:1';
      const found = await findImage({ ...options, image: name, warning: (text) => warnings.push(text) });
      expect(found.root).toBe(image.digest);
      expect(warnings).toEqual([
        expect.stringMatching(/^What refers to registry\.example\/team\/app:1 .*500 Internal/),
      ]);
    },
  );

  it('says what is wrong', async () => {
    const remote = new Remote();
    await expect(find(remote)).rejects.toThrow('registry.example/team/app:1 is not in its registry');
    await expect(find(remote, 'docker://no reference')).rejects.toThrow('is not an image reference');
    const old = Buffer.from(JSON.stringify({ schemaVersion: 1, fsLayers: [{ blobSum: 'x' }] }));
    const mediaType = 'application/vnd.docker.distribution.manifest.v1+prettyjws';
    remote.manifests.set('1', { bytes: old, descriptor: { mediaType, digest: digestOf(old), size: old.length } });
    await expect(find(remote)).rejects.toMatchObject({
      message: expect.stringContaining('has schemaVersion 1 instead of 2'),
      remedy: expect.stringContaining('pull the image with a current engine'),
    });
    const image = remote.image('amd64', '1');
    remote.blobs.clear();
    const store = await open(remote);
    const [blob] = walk(store.tree as never).blobs;
    expect(store.tree).toMatchObject({ root: image });
    await expect(store.open(blob!.digest)).rejects.toThrow(`and not its blob ${blob!.digest}`);
  });
});
