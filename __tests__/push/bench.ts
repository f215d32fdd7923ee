/** A push in this process: embedded registries, a folder of its own, and everything that it reported. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { onTestFinished, vi } from 'vitest';
import type { StreamedBlob } from '../../src/blob/blob.ts';
import type { ImageTree } from '../../src/oci/image-tree.ts';
import { type Descriptor, type Digest, digestOf, type Manifest, MediaType } from '../../src/oci/types.ts';
import { closeContext, contextOf, openContext, type PushContext } from '../../src/push/context.ts';
import type { PushEvent } from '../../src/push/events.ts';
import { documentsOf } from '../../src/push/image-manifests.ts';
import type { RawInputs } from '../../src/push/input-values.ts';
import { type PushRequest, parseRequest } from '../../src/push/options.ts';
import { type Denied, moveTags, putManifests } from '../../src/push/put-manifests.ts';
import type { TargetRepository } from '../../src/push/target-repository.ts';
import { systemClock } from '../../src/registry/host/throttle.ts';
import type { StoreSource, StreamSource } from '../../src/source/source.ts';
import { quickClock } from '../faults/clock.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import { type Registry, type RegistryOptions, startRegistry } from '../support/registry/server.ts';

/** An embedded registry that ends with the test. */
export async function registryForTest(options?: RegistryOptions): Promise<Registry> {
  const registry = await startRegistry(options);
  onTestFinished(() => registry.close());
  return registry;
}

/** An empty folder that goes with the test. */
export async function folderForTest(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'push-test-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** What was reported. */
export class Events {
  readonly all: PushEvent[] = [];
  readonly report = (event: PushEvent): void => void this.all.push(event);

  texts(type: 'info' | 'notice' | 'warning' | 'debug'): string[] {
    return this.all.filter((event) => event.type === type).map((event) => ('text' in event ? event.text : ''));
  }
}

export async function requestForTest(raw: RawInputs): Promise<PushRequest> {
  const surroundings = { workDir: join(await folderForTest(), 'work'), env: {}, remoteCache: false };
  return parseRequest({ image: 'app:1', ...raw }, surroundings) as PushRequest;
}

export interface Bench {
  readonly context: PushContext;
  readonly events: Events;
  readonly request: PushRequest;
  /** Cancels the push. */
  readonly cancel: AbortController;
}

/** An open context that is closed with the test. The cache is left out unless it is asked for. */
export async function contextForTest(raw: RawInputs): Promise<Bench> {
  const events = new Events();
  const cancel = new AbortController();
  const request = await requestForTest({ cache: 'false', ...raw });
  const shared = await openContext(request, events.report, cancel.signal);
  onTestFinished(() => closeContext(shared));
  const context = contextOf(shared, request.images[0]!);
  return { context, events, request, cancel };
}

/** Puts the manifests of what was transferred into every repository, then its tags. Resolves to what repositories lack. */
export async function commitTo(
  context: PushContext,
  tree: ImageTree,
  { compressed }: { compressed: ReadonlyMap<Digest, Descriptor> },
): Promise<Denied> {
  const documents = documentsOf(tree, compressed);
  const targets = context.registries.flatMap(({ repositories }) => repositories);
  const denied = await putManifests(
    targets.map((target) => ({ target, documents })),
    context,
  );
  const put = targets.filter((target) => !denied.has(target));
  const move = (target: TargetRepository) =>
    target.references.map((reference) => ({ target, reference, root: documents.root, before: undefined }));
  await moveTags(put.flatMap(move), context);
  return denied;
}

/** A layer's plain bytes (no real tar is needed by what these tests ask) and what names it. */
export interface PlainLayer {
  readonly bytes: Buffer;
  readonly diffId: Digest;
}

export const plainLayer = (bytes: Buffer): PlainLayer => ({ bytes, diffId: digestOf(bytes) });

/** The tree of an image without a manifest of its own. */
export const composed = (layers: readonly { diffId: Digest }[], seed = 'test'): ImageTree & { kind: 'composed' } => {
  const diffIds = layers.map(({ diffId }) => diffId);
  const config = Buffer.from(
    JSON.stringify({ architecture: 'amd64', os: 'linux', seed, rootfs: { type: 'layers', diff_ids: diffIds } }),
  );
  return { kind: 'composed', config, diffIds };
};

/** A store of these layers. `read` stands in for a layer's bytes. */
export const storeOf = (
  layers: readonly PlainLayer[],
  read: (layer: PlainLayer) => Readable = ({ bytes }) => Readable.from([bytes]),
): StoreSource & { readonly opened: Digest[] } => {
  const opened: Digest[] = [];
  return {
    kind: 'store',
    description: 'a store for a test',
    tree: composed(layers),
    opened,
    open: async (digest) => {
      const layer = layers.find(({ diffId }) => diffId === digest);
      if (!layer) return undefined;
      opened.push(digest);
      return { format: 'tar', seekable: false, size: layer.bytes.length, read: () => read(layer) };
    },
    close: async () => {},
  };
};

/** A stream of these layers, named as `save` names them. */
export const streamOf = (
  layers: readonly PlainLayer[],
  read: (layer: PlainLayer) => Readable = ({ bytes }) => Readable.from([bytes]),
): StreamSource & { readonly given: Digest[] } => {
  const given: Digest[] = [];
  async function* blobs(): AsyncGenerator<StreamedBlob> {
    for (const layer of layers) {
      given.push(layer.diffId);
      const body = read(layer);
      const name = `blobs/sha256/${layer.diffId.slice(7)}`;
      yield { name, digest: layer.diffId, size: layer.bytes.length, format: 'tar', body };
      if (!body.closed) await new Promise((closed) => body.once('close', closed));
    }
  }
  return {
    kind: 'stream',
    description: 'a stream for a test',
    blobs,
    tree: () => undefined,
    close: async () => {},
    given,
  };
};

/** Documents that a registry serves whatever it was given, by `repository:reference`. */
export class Served {
  readonly #documents = new Map<string, { bytes: Buffer; mediaType: string }>();

  /** For the registry's options. */
  readonly quirk: Quirk = {
    name: 'serves what a test says',
    before: ({ method, route: { step, repository, reference } }) => {
      const found = this.#documents.get(`${repository}:${reference}`);
      if (!found || method !== 'GET' || step !== 'manifest-get') return undefined;
      const headers = { 'Content-Type': found.mediaType, 'Docker-Content-Digest': digestOf(found.bytes) };
      return { status: 200, headers: { ...headers, 'Content-Length': String(found.bytes.length) }, body: found.bytes };
    },
  };

  /** Serves a document under a tag and its digest. Gives the digest. */
  add(repository: string, tag: string, document: unknown, mediaType: string = MediaType.ociManifest): Digest {
    const bytes = Buffer.isBuffer(document) ? document : Buffer.from(JSON.stringify(document) ?? '');
    for (const reference of [tag, digestOf(bytes)])
      this.#documents.set(`${repository}:${reference}`, { bytes, mediaType });
    return digestOf(bytes);
  }
}

/** Lets the waits of pushes pass at once in this test. */
export function skipWaits(): void {
  const { now, sleep } = quickClock();
  const mocks = [
    vi.spyOn(systemClock, 'now').mockImplementation(now),
    vi.spyOn(systemClock, 'sleep').mockImplementation(sleep),
  ];
  onTestFinished(() => {
    for (const mock of mocks) mock.mockRestore();
  });
}

/** Puts the layers, compressed, and a config into a repository. Gives the manifest of an image of them. */
export async function putBlobs(
  registry: Registry,
  repository: string,
  layers: readonly PlainLayer[],
  config: Buffer = composed(layers).config,
): Promise<Manifest> {
  const descriptors: Descriptor[] = [];
  for (const { bytes } of layers) {
    const blob = gzipSync(bytes, { level: 1 });
    const digest = (await registry.addBlob(repository, blob)) as Digest;
    descriptors.push({ mediaType: MediaType.ociLayerGzip, digest, size: blob.length });
  }
  const digest = (await registry.addBlob(repository, config)) as Digest;
  return {
    schemaVersion: 2,
    mediaType: MediaType.ociManifest,
    config: { mediaType: MediaType.ociConfig, digest, size: config.length },
    layers: descriptors,
  };
}
