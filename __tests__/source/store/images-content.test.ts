import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ManifestTree } from '../../../src/oci/image-tree.ts';
import { type Digest, digestOf, type Index, type Manifest } from '../../../src/oci/types.ts';
import type { StoreSource } from '../../../src/source/source.ts';
import { LocalFiles } from '../../../src/source/store/files/files.ts';
import { openContentStore } from '../../../src/source/store/images.ts';
import { run } from '../../support/real/processes.ts';
import { digestOfStream, layersOf } from './reading.ts';

/** What real engines saved: an OCI layout has its blobs just where a content store has them. */
const fixture = (name: string): string => fileURLToPath(new URL(`../../fixtures/${name}.tar`, import.meta.url));

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'chunked-push-content-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const pathOf = (digest: Digest): string => join(folder, 'blobs/sha256', digest.slice(7));
const json = <T>(digest: Digest): T => JSON.parse(readFileSync(pathOf(digest), 'utf8')) as T;

/** Unpacks a fixture and gives the digest of its root. */
const unpack = async (name: string): Promise<Digest> => {
  await run('tar', ['-xf', fixture(name), '-C', folder]);
  const { manifests } = JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8')) as Index;
  return manifests[0]!.digest;
};

const open = (root: Digest): Promise<StoreSource> => openContentStore(new LocalFiles([folder]), folder, root);
const treeOf = (source: StoreSource): ManifestTree => source.tree as ManifestTree;

describe('the content store', () => {
  it.each(['docker28-containerd', 'docker28-containerd-multi', 'docker28-containerd-multi-arm64'])(
    'gives all documents and layers of %s',
    async (name) => {
      const root = await unpack(name);
      const source = await open(root);
      const { root: descriptor, documents, absent } = treeOf(source);
      expect(descriptor).toMatchObject({ digest: root, size: readFileSync(pathOf(root)).length });
      expect(absent).toEqual([]);
      for (const [digest, bytes] of documents) expect(digestOf(bytes)).toBe(digest);
      const layers = layersOf(source);
      expect(layers.length).toBeGreaterThan(0);
      for (const digest of layers) {
        const blob = (await source.open(digest))!;
        expect(blob.seekable).toBe(true);
        expect(['gzip', 'other']).toContain(blob.format); // An attestation is JSON.
        expect(await digestOfStream(blob.read())).toEqual({ digest, size: blob.size });
        const whole = readFileSync(pathOf(digest));
        const part = await digestOfStream(blob.read(7, whole.length - 3));
        expect(part.digest).toBe(digestOf(whole.subarray(7, -3)));
      }
      await source.close();
    },
  );

  it('says which platforms were never pulled', async () => {
    const root = await unpack('docker28-containerd-absent-platform');
    const source = await open(root);
    const { documents, absent } = treeOf(source);
    const named = json<Index>(root).manifests;
    const lacking = named.filter(({ digest }) => !documents.has(digest));
    expect(lacking.length).toBeGreaterThan(0);
    expect(absent).toEqual(lacking);
    await source.close();
  });

  it('takes a platform of which only the documents are there for one that was never pulled', async () => {
    const root = await unpack('docker28-containerd-multi');
    const platform = json<Index>(root).manifests.find((child) => child.platform?.architecture === 'arm64')!;
    const others = json<Index>(root).manifests.filter((child) => child.platform?.architecture === 'amd64');
    const kept = new Set(others.flatMap((child) => json<Manifest>(child.digest).layers.map(({ digest }) => digest)));
    const own = json<Manifest>(platform.digest).layers.map(({ digest }) => digest);
    for (const digest of new Set(own)) rmSync(pathOf(digest));
    const source = await open(root);
    expect(treeOf(source).absent.map(({ digest }) => digest)).toContain(platform.digest);
    expect(treeOf(source).documents.has(platform.digest)).toBe(false);
    // A layer that both platforms had is gone with it.
    const gone = [...kept].find((digest) => own.includes(digest));
    if (gone) expect(await source.open(gone)).toBeUndefined();
    await source.close();
  });

  it('refuses a document with other bytes than its digest says', async () => {
    const root = await unpack('docker28-containerd');
    const { config } = json<Manifest>(json<Index>(root).manifests[0]!.digest);
    const bytes = readFileSync(pathOf(config.digest));
    bytes[bytes.length - 2] = 0x20;
    writeFileSync(pathOf(config.digest), bytes);
    await expect(open(root)).rejects.toThrow('is damaged');
    truncateSync(pathOf(config.digest), 10);
    await expect(open(root)).rejects.toThrow('is damaged');
  });

  it('does not find what is not there', async () => {
    const root = await unpack('docker28-containerd');
    await expect(open(digestOf(Buffer.from('another')))).rejects.toMatchObject({ name: 'StoreError', missing: true });
    const source = await open(root);
    expect(await source.open(digestOf(Buffer.from('another')))).toBeUndefined();
    await expect(source.open('sha256:../../../etc/passwd' as Digest)).rejects.toThrow('is not a sha256 digest');
    await source.close();
  });

  it('tells the form of a blob by its first bytes', async () => {
    const root = await unpack('docker28-containerd');
    const source = await open(root);
    const zstd = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0]);
    const head = Buffer.alloc(512);
    head.set(readFileSync(fixture('docker28-containerd')).subarray(0, 512));
    const forms = { zstd, tar: head, other: Buffer.from('{}') };
    for (const [form, bytes] of Object.entries(forms)) {
      writeFileSync(pathOf(digestOf(bytes)), bytes);
      expect((await source.open(digestOf(bytes)))!.format).toBe(form);
    }
    for (const [bytes, form] of [
      [Buffer.alloc(1024), 'tar'],
      [Buffer.alloc(0), 'other'],
    ] as const) {
      writeFileSync(pathOf(digestOf(bytes)), bytes);
      expect((await source.open(digestOf(bytes)))!.format).toBe(form);
    }
    await source.close();
  });

  it('holds a small blob in memory, and of a large one no more than its head', async () => {
    const root = await unpack('docker28-containerd');
    const source = await open(root);
    for (const [size, isHeld] of [
      [2 * 2 ** 20, true],
      [2 * 2 ** 20 + 1, false],
    ] as const) {
      const bytes = Buffer.alloc(size, 'a layer');
      writeFileSync(pathOf(digestOf(bytes)), bytes);
      const blob = (await source.open(digestOf(bytes)))!;
      expect(blob.size).toBe(size);
      expect(blob.bytes?.equals(bytes) ?? false).toBe(isHeld);
    }
    await source.close();
  });
});
