import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ManifestTree } from '../../../src/oci/image-tree.ts';
import { selectPlatforms } from '../../../src/oci/platforms.ts';
import { type Descriptor, type Digest, digestOf, type Index, MediaType } from '../../../src/oci/types.ts';
import { isUncompressedLayer, walk } from '../../../src/oci/walk.ts';
import { findImage } from '../../../src/source/find/find.ts';
import type { StoreSource } from '../../../src/source/source.ts';
import { LayoutFolder } from '../../support/layout.ts';
import { hashOf, tarOf } from '../fixtures.ts';

let work: string;
let layout: LayoutFolder;
let layouts = 0;
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'chunked-push-layout-'));
});
afterAll(() => rmSync(work, { recursive: true }));
beforeEach(() => {
  layouts += 1;
  layout = new LayoutFolder(join(work, `${layouts}`));
});

const signal = new AbortController().signal;
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const named = (name: string) => ({ annotations: { 'org.opencontainers.image.ref.name': name } });
const pathOf = (digest: Digest): string => join(layout.path, 'blobs/sha256', digest.slice(7));

function write(...manifests: object[]): string {
  writeFileSync(join(layout.path, 'index.json'), json({ schemaVersion: 2, manifests }));
  return `oci:${layout.path}`;
}

async function open(image: string): Promise<StoreSource & { readonly tree: ManifestTree }> {
  const found = await findImage({ image, engine: 'auto', signal, tempDir: work });
  const source = await found.open({ signal, debug: () => {}, notice: () => {} });
  if (source.kind !== 'store' || source.tree.kind !== 'manifests') throw new Error('a layout has manifests');
  return source as StoreSource & { readonly tree: ManifestTree };
}

/** Opens a layout, reads each blob of the image, and gives the digests of what is to be put. */
async function read(image: string): Promise<Digest[]> {
  const store = await open(image);
  const { blobs, documents } = walk(store.tree);
  for (const { digest } of blobs) expect((await hashOf((await store.open(digest))!.read())).hash).toBe(digest);
  await store.close();
  return documents.map(({ descriptor }) => descriptor.digest);
}

const artifact = (text: string, more: object = {}): Descriptor => {
  const config = layout.blob(Buffer.from('{}'), 'application/vnd.oci.empty.v1+json');
  const layers = [layout.blob(Buffer.from(text), 'application/vnd.example.text')];
  return layout.document(MediaType.ociManifest, { artifactType: 'application/vnd.example', config, layers, ...more });
};

describe('entries of index.json that are no images', () => {
  // skopeo and oras ignore them; image-spec's own example of an index.json has one of application/xml.
  it('are passed over: the example of image-layout.md, a large blob, one that is not there', async () => {
    const image = await layout.image('amd64');
    const xml = layout.blob(Buffer.from('<xml/>'), 'application/xml', {
      annotations: { 'org.freedesktop.specifications.metainfo.version': '1.0' },
    });
    const large = layout.blob(Buffer.alloc(5 << 20, 'x'), 'application/octet-stream');
    const absent = { ...xml, digest: digestOf(Buffer.from('absent')) };
    expect(await read(write(xml, large, absent, image))).toEqual([image.digest]);
    expect(await read(write(xml, large, absent, { ...image, ...named('v1') }))).toEqual([image.digest]);
  });

  it('alone are no image', async () => {
    const xml = layout.blob(Buffer.from('<xml/>'), 'application/xml');
    await expect(read(write(xml))).rejects.toThrow('holds no image');
  });

  it('of schema 1 are named as such', async () => {
    const old = layout.blob(
      json({ schemaVersion: 1, name: 'a', tag: 'b', fsLayers: [], history: [] }),
      'application/vnd.docker.distribution.manifest.v1+prettyjws',
    );
    await expect(read(write(old))).rejects.toThrow('has schemaVersion 1 instead of 2');
  });
});

describe('manifests as they are out there', () => {
  // Go writes a nil slice as null: https://github.com/opencontainers/image-spec/issues/1013; docker-registry and skopeo accept both.
  it.each([
    ['null', { layers: null }],
    ['absent', { layers: undefined }],
  ])('layers are %s', async (_, layers) => {
    const bare = artifact('x', layers);
    expect(await read(write(bare))).toEqual([bare.digest]);
    const config = layout.blob(
      json({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: null } }),
      MediaType.ociConfig,
    );
    const image = layout.document(MediaType.ociManifest, { config, ...layers });
    expect(await read(write(image))).toEqual([image.digest]);
  });

  it.each(['{}', '', 'null', 'some text', '[]', '{"rootfs": 5}'])(
    'an artifact has the media type of an image config over %j, and keeps its .tar layers as they are',
    async (text) => {
      const config = layout.blob(Buffer.from(text), MediaType.ociConfig);
      const layers = [layout.blob(await tarOf([{ name: 'a', body: 'a' }]), MediaType.ociLayer)];
      const manifest = layout.document(MediaType.ociManifest, { config, layers });
      expect(await read(write(manifest))).toEqual([manifest.digest]);
      const store = await open(write(manifest));
      expect(isUncompressedLayer(walk(store.tree).manifests[0]!, 0)).toBe(false);
      await store.close();
    },
  );

  it.each([
    ['gzip', gzipSync, MediaType.ociLayer],
    ['zstd', zstdCompressSync, MediaType.ociLayer],
    ['gzip', gzipSync, MediaType.dockerLayer],
    ['zstd', zstdCompressSync, MediaType.dockerLayer],
  ] as const)(
    'a layer of %s bytes is typed as a plain tar: it is not compressed again',
    async (_, compress, mediaType) => {
      const tar = await tarOf([{ name: 'a', body: 'a' }]);
      const config = layout.blob(
        json({ rootfs: { type: 'layers', diff_ids: [digestOf(tar), digestOf(tar)] } }),
        MediaType.ociConfig,
      );
      const layers = [layout.blob(compress(tar), mediaType), layout.blob(tar, mediaType)];
      const store = await open(write(layout.document(MediaType.ociManifest, { config, layers })));
      const [image] = walk(store.tree).manifests;
      expect([0, 1].map((position) => isUncompressedLayer(image!, position))).toEqual([false, true]);
      await store.close();
    },
  );

  it.each([5, 99_999_999])('a layer of %d bytes by its descriptor has others: refused', async (size) => {
    const wrong = layout.blob(Buffer.from('some text'), 'application/vnd.example.text');
    await expect(read(write(artifact('x', { layers: [{ ...wrong, size }] })))).rejects.toThrow(
      `has 9 bytes where its descriptor says ${size}`,
    );
  });
});

// https://github.com/containers/skopeo/issues/2463 (paketo); crane push --index pushes them as one index.
describe('platforms directly in index.json', () => {
  const platform = (architecture: string) => ({ platform: { os: 'linux', architecture } });

  async function flat(more: (architecture: string) => object): Promise<Descriptor[]> {
    return Promise.all(
      ['amd64', 'arm64', 's390x'].map(async (one) => ({ ...(await layout.image(one)), ...more(one) }) as Descriptor),
    );
  }

  it.each<[string, (architecture: string) => object, string]>([
    ['descriptors that have one', platform, ''],
    ['configs that have one', () => ({ platform: undefined }), ''],
    ['one name for all', (one) => ({ ...platform(one), ...named('v1') }), ':v1'],
  ])('become one index: %s', async (_, more, ref) => {
    const images = await flat(more);
    const attestation = layout.attestation(images[0]!);
    const store = await open(write(...images, attestation) + ref);
    const index = JSON.parse(store.tree.documents.get(store.tree.root.digest)!.toString()) as Index;
    expect(index).toMatchObject({ schemaVersion: 2, mediaType: MediaType.ociIndex });
    expect(index.manifests.map(({ digest }) => digest)).toEqual([...images, attestation].map(({ digest }) => digest));
    expect(index.manifests.map((one) => one.platform?.architecture)).toEqual(['amd64', 'arm64', 's390x', 'unknown']);
    expect(JSON.stringify(index)).not.toContain('ref.name');
    expect(selectPlatforms(store.tree, ['linux/arm64']).tree.root.digest).toBe(images[1]!.digest);
    await store.close();
  });

  it.each<[string, (architecture: string) => object]>([
    ['each has another name', (one) => ({ ...platform(one), ...named(one) })],
    ['two have the same platform', () => platform('amd64')],
  ])('are several images when %s', async (_, more) => {
    await expect(read(write(...(await flat(more))))).rejects.toThrow('holds several images');
  });

  it('are chosen by digest as ever', async () => {
    const images = await flat(platform);
    expect(await read(`${write(...images)}:${images[2]!.digest}`)).toEqual([images[2]!.digest]);
  });
});

describe('referrers', () => {
  const fallback = (subject: Descriptor, manifests: readonly Descriptor[], before = '') =>
    layout.document(MediaType.ociIndex, { manifests }, named(`${before}sha256-${subject.digest.slice(7)}`));

  // regctl 0.11 writes the fallback tag of the referrers API as an entry of index.json.
  it.each(['', 'localhost:5000/app:'])(
    'lie below an index called %ssha256-<hex>, as regctl keeps them',
    async (before) => {
      const image = artifact('image');
      const signature = artifact('signature', { subject: image });
      const signed = artifact('signature of the signature', { subject: signature });
      const index = write(fallback(image, [signature], before), fallback(signature, [signed]), {
        ...image,
        ...named('v1'),
      });
      for (const ref of ['', ':v1', `:${image.digest}`])
        expect(await read(index + ref)).toEqual([image.digest, signature.digest, signed.digest]);
    },
  );

  it('of other images stay behind, and need not be here', async () => {
    const [image, other] = [artifact('image'), artifact('other')];
    const signature = artifact('signature', { subject: other });
    const absent = { ...signature, digest: digestOf(Buffer.from('absent')) };
    const index = write(
      fallback(image, [signature, absent]),
      { ...image, ...named('v1') },
      { ...other, ...named('v2') },
    );
    expect(await read(`${index}:v1`)).toEqual([image.digest]);
    expect(await read(`${index}:v2`)).toEqual([other.digest, signature.digest]);
  });
});

describe('files that are none of the layout', () => {
  let secret: string;
  beforeEach(() => {
    secret = join(work, `secret-${layouts}`);
    mkdirSync(secret);
    writeFileSync(join(secret, 'file'), 'a secret of this machine');
  });

  const replace = (digest: Digest, target: string): void => {
    rmSync(pathOf(digest));
    symlinkSync(target, pathOf(digest));
  };
  const layerOf = (text: string): Descriptor => layout.blob(Buffer.from(text), 'application/vnd.example.text');

  it.each([
    ['absolute', () => join(secret, 'file')],
    ['relative', () => join('../../..', `secret-${layouts}`, 'file')],
    [
      'through a link in the folder',
      () => {
        symlinkSync(secret, join(layout.path, 'inner'));
        return '../../inner/file';
      },
    ],
  ])('a blob is a link out of it, %s: no byte is read but to verify it', async (_, target) => {
    const layer = layerOf('text of the same length!');
    const store = await open(write(artifact('x', { layers: [layer] })));
    await store.close();
    replace(layer.digest, target());
    const again = await open(write(artifact('x', { layers: [layer] })));
    await expect(again.open(layer.digest)).rejects.toThrow('leads out of the folder, to other bytes');
    await again.close();
  });

  it('a link out of it to the right bytes is followed, also where the folder of all blobs is one', async () => {
    const image = artifact('image');
    const moved = join(work, `moved-${layouts}`);
    renameSync(join(layout.path, 'blobs'), moved);
    symlinkSync(moved, join(layout.path, 'blobs'));
    expect(await read(write(image))).toEqual([image.digest]);
  });

  it('a link in it is followed', async () => {
    const image = artifact('image');
    renameSync(pathOf(image.digest), join(layout.path, 'manifest'));
    symlinkSync('../../manifest', pathOf(image.digest));
    expect(await read(write(image))).toEqual([image.digest]);
  });

  it('a document is a link out of it: nothing of it is in the message', async () => {
    const image = artifact('image');
    const index = write(image);
    replace(image.digest, join(secret, 'file'));
    const error = (await read(index).catch((reason: unknown) => reason)) as Error;
    expect(error.message).toContain('is damaged: its bytes have the digest');
    rmSync(join(layout.path, 'index.json'));
    symlinkSync(join(secret, 'file'), join(layout.path, 'index.json'));
    const other = (await read(index).catch((reason: unknown) => reason)) as Error;
    expect(other.message).toContain('index.json in OCI layout');
    expect(other.message).toContain('is a link that leads out of the folder');
    expect(`${error.stack} ${other.stack} ${String(other.cause)}`).not.toContain('a secret');
  });

  it.each(['index.json', 'manifest', 'layer'])(
    '%s is a FIFO, a socket, a device or a folder: refused at once',
    async (which) => {
      const layer = layerOf('text');
      const image = artifact('image', { layers: [layer] });
      const index = write(image);
      const path =
        which === 'index.json' ? join(layout.path, which) : pathOf(which === 'layer' ? layer.digest : image.digest);
      const bytes = readFileSync(path);
      const server = createServer();
      const make: (() => unknown)[] = [
        () => execFileSync('mkfifo', [path]),
        async () => {
          // The path of a socket that is made has at most 107 bytes.
          const short = join(work, `s${layouts}`);
          await new Promise<void>((resolve) => server.listen(short, resolve));
          renameSync(short, path);
        },
        () => symlinkSync('/dev/zero', path),
        () => mkdirSync(path),
      ];
      for (const [position, one] of make.entries()) {
        rmSync(path, { recursive: true });
        await one();
        await expect(read(index), `${position}`).rejects.toThrow('it is not a regular file');
      }
      await new Promise((resolve) => server.close(resolve));
      rmSync(path, { recursive: true });
      writeFileSync(path, bytes);
      expect(await read(index)).toEqual([image.digest]);
    },
  );
});
