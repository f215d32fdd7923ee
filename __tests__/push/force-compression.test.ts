import { join } from 'node:path';
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { type Descriptor, digestOf, type Manifest, MediaType } from '../../src/oci/types.ts';
import { push } from '../../src/push/push.ts';
import { LayoutFolder, tarOf } from '../support/layout.ts';
import type { Registry } from '../support/registry/server.ts';
import { Events, folderForTest, registryForTest, requestForTest } from './bench.ts';

const go = async (image: string, tags: string, inputs: Readonly<Record<string, string>> = {}) => {
  const events = new Events();
  const request = await requestForTest({ image, tags, cache: 'false', ...inputs });
  await push(request, events.report, new AbortController().signal);
  return events;
};

const FORCED = { compression: 'zstd', 'force-compression': 'true' };

/** An image under `staging/app:1` whose layers and config are these bytes. */
async function stage(
  registry: Registry,
  layers: readonly (readonly [bytes: Buffer, mediaType: string])[],
  config: Buffer,
): Promise<Descriptor> {
  const layout = new LayoutFolder(join(await folderForTest(), 'layout'));
  const image = layout.document(MediaType.ociManifest, {
    config: layout.blob(config, MediaType.ociConfig),
    layers: layers.map(([bytes, mediaType]) => layout.blob(bytes, mediaType)),
  });
  layout.close(['v1', image]);
  // As another client pushes it, which compresses nothing: a layer that says it is plain stays so.
  for (const [bytes] of layers) await registry.addBlob('staging/app', bytes);
  await registry.addBlob('staging/app', config);
  const put = await fetch(`${registry.url}/v2/staging/app/manifests/1`, {
    method: 'PUT',
    headers: { 'content-type': image.mediaType },
    body: layout.read(image.digest),
  });
  expect(put.status).toBe(201);
  return image;
}

const configOf = (...diffIds: readonly string[]): Buffer =>
  Buffer.from(JSON.stringify({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: diffIds } }));

const manifestAt = (registry: Registry): Manifest =>
  JSON.parse(registry.manifest('production/app', '1')!.bytes.toString('utf8')) as Manifest;

const forced = async (from: Registry, to: Registry): Promise<Events> =>
  go(`docker://${from.host}/staging/app:1`, `${to.host}/production/app:1`, FORCED);

describe('force-compression of an image in a registry', () => {
  it.each([
    ['zstd', zstdCompressSync],
    ['a plain tar', (tar: Buffer) => tar],
  ])('reads a layer that is %s though its media type says gzip', async (_, compress) => {
    const [from, to] = [await registryForTest(), await registryForTest()];
    const tar = await tarOf('data', 20_000);
    await stage(from, [[compress(tar), MediaType.ociLayerGzip]], configOf(digestOf(tar)));
    await forced(from, to);
    const [layer] = manifestAt(to).layers;
    expect(layer!.mediaType).toBe(MediaType.ociLayerZstd);
    const bytes = await fetch(`${to.url}/v2/production/app/blobs/${layer!.digest}`).then((one) => one.arrayBuffer());
    expect(zstdDecompressSync(Buffer.from(bytes)).equals(tar)).toBe(true);
  });

  it('compresses plain layers too, and the second push sends nothing', async () => {
    const [from, to] = [await registryForTest(), await registryForTest()];
    const tar = await tarOf('data', 20_000);
    await stage(from, [[tar, MediaType.ociLayer]], configOf(digestOf(tar)));
    await forced(from, to);
    expect(manifestAt(to).layers[0]!.mediaType).toBe(MediaType.ociLayerZstd);
    const before = to.uploadedBytes();
    await forced(from, to);
    expect(to.uploadedBytes()).toBe(before);
  });

  it.each([
    ['names too few diffIDs', configOf()],
    ['is {}', Buffer.from('{}')],
    ['has no byte', Buffer.alloc(0)],
    ['is larger than 4 MiB', Buffer.concat([configOf(digestOf(Buffer.from('x'))), Buffer.alloc(4_200_000, ' ')])],
  ])('says once that layers stay as they are where the config %s', async (_, config) => {
    const [from, to] = [await registryForTest(), await registryForTest()];
    const tar = await tarOf('data', 20_000);
    const image = await stage(from, [[gzipSync(tar), MediaType.ociLayerGzip]], config);
    const events = await forced(from, to);
    expect(to.manifest('production/app', '1')?.digest).toBe(image.digest);
    expect(events.texts('warning')).toEqual([
      expect.stringMatching(`^force-compression: layers of ${image.digest} stay as they are`),
    ]);
    const stays = manifestAt(to).layers[0]!;
    const bytes = await fetch(`${to.url}/v2/production/app/blobs/${stays.digest}`).then((one) => one.arrayBuffer());
    expect(gunzipSync(Buffer.from(bytes)).equals(tar)).toBe(true);
  });
});
