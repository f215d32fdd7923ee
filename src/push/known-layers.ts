/**
 * Known layers: which compressed blob stands for a diffID, as this push, the caches, and images pushed earlier say. All
 * of it is a hint: a blob counts as there only after the registry said so.
 */

import { layerMediaType } from '../blob/compress/compression.ts';
import type { KnownBlob } from '../cache/layer-cache.ts';
import { explain } from '../common/error.ts';
import { readDiffIds } from '../oci/documents.ts';
import {
  type Descriptor,
  type Digest,
  type Index,
  isDigest,
  isForeignLayer,
  isImageConfigType,
  isIndexType,
  isManifestType,
  type Manifest,
} from '../oci/types.ts';
import type { FetchedManifest } from '../registry/manifests.ts';
import type { Repository } from '../registry/repository.ts';
import type { Report } from './events.ts';
import type { RequestOptions } from './options.ts';
import type { TargetRepository } from './target-repository.ts';

export class KnownLayers {
  readonly #byDiffId = new Map<Digest, Descriptor[]>();
  readonly #repositories = new Map<string, Set<string>>();
  readonly #compression: 'gzip' | 'zstd';

  constructor(compression: 'gzip' | 'zstd') {
    this.#compression = compression;
  }

  /** Notes that a blob stands for a layer. One of another compression than the one asked for is not reused. */
  add(diffId: Digest, layer: Descriptor): void {
    if (isForeignLayer(layer) || !layer.mediaType.endsWith(this.#compression)) return;
    const list = this.#byDiffId.get(diffId) ?? [];
    if (!list.some(({ digest }) => digest === layer.digest)) {
      // Our own manifests are OCI manifests; a layer of a Docker manifest has another name there, and the same bytes.
      list.push({ mediaType: layerMediaType(this.#compression), digest: layer.digest, size: layer.size });
    }
    this.#byDiffId.set(diffId, list);
  }

  /** Notes that a repository of a registry is likely to have a blob, so that it can be mounted from there. */
  addRepository(host: string, digest: Digest, repository: string): void {
    const key = `${host} ${digest}`;
    this.#repositories.set(key, (this.#repositories.get(key) ?? new Set()).add(repository));
  }

  /** Notes what a cache says: which blobs stand for layers, and which repositories (`host/name`) have them. */
  addCached(blobs: ReadonlyMap<Digest, KnownBlob>): void {
    for (const [diffId, { repositories = [], ...descriptor }] of blobs) {
      if (diffId !== descriptor.digest) this.add(diffId, descriptor);
      for (const name of repositories) {
        const slash = name.indexOf('/');
        this.addRepository(name.slice(0, slash), descriptor.digest, name.slice(slash + 1));
      }
    }
  }

  /** The blobs that may stand for a layer, the likeliest first. */
  candidates(diffId: Digest): readonly Descriptor[] {
    return this.#byDiffId.get(diffId) ?? [];
  }

  /** The repositories of a registry that are likely to have a blob. */
  repositories(host: string, digest: Digest): readonly string[] {
    return [...(this.#repositories.get(`${host} ${digest}`) ?? [])];
  }
}

/** Platforms of one index that are looked at: each costs two requests. */
const MAX_CHILDREN = 8;

/** An image pushed earlier. */
interface EarlierImage {
  readonly host: string;
  readonly repository: Repository;
  /** A tag or a digest. */
  readonly reference: string;
  readonly signal: AbortSignal;
  /** The repository as one that the push goes to, if it is one. */
  readonly target?: TargetRepository;
}

/** What an earlier image says. */
interface EarlierLayers {
  readonly host: string;
  readonly repository: string;
  readonly layers: [Digest, Descriptor][];
  readonly blobs: Digest[];
}

/** An image whose config and diffIDs the engine has reported. */
interface KnownConfig {
  readonly digest: Digest;
  readonly diffIds: readonly Digest[];
}

/** What images are read with: the part of the push's context. */
interface Reading {
  readonly request: Pick<RequestOptions, 'cacheFrom' | 'concurrency'>;
  readonly report: Report;
  readonly signal: AbortSignal;
  readonly known: KnownLayers;
  /** Each is asked for once in a push; undefined for what is not there. */
  readonly documents: {
    manifest(repository: Repository, reference: string, signal: AbortSignal): Promise<FetchedManifest | undefined>;
    blob(repository: Repository, digest: Digest, signal: AbortSignal): Promise<Buffer | undefined>;
  };
}

/** A registry that the image goes to. */
interface Target {
  readonly host: string;
  readonly registry: { repository(name: string): Repository };
  readonly repositories: readonly TargetRepository[];
}

/**
 * Reads known layers out of images pushed earlier, whose config and manifest pair diffIDs with blobs position by
 * position. What can't be read says nothing.
 */
export class EarlierImages {
  readonly #shared: Reading;
  readonly #registries: readonly Target[];
  #reading: Promise<EarlierLayers>[] | undefined;
  #read: Promise<void> | undefined;
  #hasAsked = false;
  /** Of the image that is pushed: an earlier image with this config need not be asked for its diffIDs. */
  config: KnownConfig | undefined;

  constructor(shared: Reading, registries: readonly Target[]) {
    this.#shared = shared;
    this.#registries = registries;
  }

  /** Whether the blobs of images in other repositories are of use: they can be mounted. */
  get areElsewhere(): boolean {
    const repositories = this.#registries.flatMap((registry) => registry.repositories);
    return this.#shared.request.cacheFrom !== undefined || repositories.length > 1;
  }

  /** Sends the requests for the images themselves; what else they need follows by itself. */
  ask(): void {
    this.#reading ??= this.#images().map((image) => this.#layersOf(image));
  }

  /**
   * Adds what the images say to the known layers. All are asked at once, and what the first ones say comes first, so
   * that two runs choose the same blobs; when they explain every layer, the others are not waited for. Never rejects.
   */
  read(): Promise<void> {
    this.#read ??= this.#readInOrder();
    return this.#read;
  }

  async #readInOrder(): Promise<void> {
    const { known } = this.#shared;
    this.ask();
    for (const reading of this.#reading ?? []) {
      const { host, repository, layers, blobs } = await reading;
      for (const digest of blobs) known.addRepository(host, digest, repository);
      for (const [diffId, layer] of layers) known.add(diffId, layer);
      if (this.config?.diffIds.every((diffId) => known.candidates(diffId).length > 0) && !this.areElsewhere) return;
    }
  }

  #images(): EarlierImage[] {
    const { request, report, signal } = this.#shared;
    return this.#registries.flatMap(({ host, registry, repositories }) => {
      if (request.cacheFrom === undefined) {
        return repositories.flatMap((target) => {
          const { references, repository, signal } = target;
          const tags = [...references.map(({ tag }) => tag ?? 'latest'), 'latest'];
          return [...new Set(tags)].map((reference) => ({ host, repository, reference, signal, target }));
        });
      }
      const here = request.cacheFrom.filter((reference) => reference.apiHost === host);
      if (here.length === 0 && request.cacheFrom.length > 0) {
        report({ type: 'debug', text: `cache-from names no image in ${host}: no layer is known from there` });
      }
      return here.map(({ repository, digest, tag }) => ({
        host,
        repository: registry.repository(repository),
        reference: digest ?? tag ?? 'latest',
        signal,
      }));
    });
  }

  async #layersOf(image: EarlierImage): Promise<EarlierLayers> {
    const { host, repository, reference, signal } = image;
    const found: EarlierLayers = { host, repository: repository.name, layers: [], blobs: [] };
    try {
      for (const manifest of await this.#manifestsOf(image)) await this.#addLayers(image, manifest, found);
    } catch (error) {
      const text = `cache-from ${repository.name}:${reference}: ${explain(error).message}`;
      if (!signal.aborted) this.#shared.report({ type: 'debug', text });
    }
    return found;
  }

  /**
   * The manifest, or those that an index names. Indexes in an index say nothing: they could name each other without
   * end.
   */
  async #manifestsOf({ repository, reference, signal }: EarlierImage): Promise<Manifest[]> {
    const { documents } = this.#shared;
    const root = await documents.manifest(repository, reference, signal);
    if (!root) return [];
    const document: unknown = JSON.parse(root.bytes.toString('utf8'));
    if (isManifestType(root.descriptor.mediaType)) return [document as Manifest];
    if (!isIndexType(root.descriptor.mediaType)) return [];
    const named = (document as Index).manifests.filter(({ mediaType }) => isManifestType(mediaType));
    const children = await Promise.all(
      named.slice(0, MAX_CHILDREN).map(({ digest }) => documents.manifest(repository, digest, signal)),
    );
    return children
      .filter((child) => child !== undefined && isManifestType(child.descriptor.mediaType))
      .map((child) => JSON.parse(child?.bytes.toString('utf8') ?? '') as Manifest);
  }

  async #addLayers(image: EarlierImage, { config, layers }: Manifest, found: EarlierLayers): Promise<void> {
    found.blobs.push(...layers.map(({ digest }) => digest).filter(isDigest));
    if (!isImageConfigType(config.mediaType)) return;
    if (config.digest !== this.config?.digest) this.#askAhead(image, layers);
    const diffIds = await this.#diffIdsOf(image, config.digest);
    // Not one to one: the config is not that of these layers, and nothing can be said of any of them.
    if (diffIds?.length !== layers.length) return;
    for (const [position, layer] of layers.entries()) {
      const diffId = diffIds[position];
      if (diffId && isLayer(layer)) found.layers.push([diffId, layer]);
    }
  }

  /**
   * Asks for the lowest layers, which most of two images have in common, while the config is read that tells whose they
   * are: on the connections that are free then.
   */
  #askAhead({ target }: EarlierImage, layers: readonly Descriptor[]): void {
    if (!target || this.areElsewhere || this.#hasAsked) return;
    this.#hasAsked = true;
    const lowest = layers.filter((layer) => isLayer(layer) && isDigest(layer.digest) && !isForeignLayer(layer));
    for (const { digest } of lowest.slice(0, this.#shared.request.concurrency - 1)) target.askAhead(digest);
  }

  async #diffIdsOf({ repository, signal }: EarlierImage, config: Digest): Promise<readonly Digest[] | undefined> {
    if (config === this.config?.digest) return this.config.diffIds;
    const bytes = await this.#shared.documents.blob(repository, config, signal);
    return bytes && diffIdsIn(bytes);
  }
}

/** The diffIDs of a config; none of what is no image's config: it may be that of an artifact. */
function diffIdsIn(config: Buffer): readonly Digest[] {
  try {
    return readDiffIds(config, 'the config');
  } catch {
    return [];
  }
}

/** Whether a row of a foreign manifest is what it should be. */
const isLayer = ({ mediaType, digest, size }: Descriptor): boolean =>
  typeof mediaType === 'string' && isDigest(digest) && Number.isSafeInteger(size) && size > 0;

// Where a blob is mounted from, and how often that is tried.

/** Below this a mount that is refused costs as much as sending the blob, bytes. */
const SMALL = 100 * 1024;
const MIDDLE = 10 * 1024 * 1024;

/**
 * The repositories to try, the likeliest first, of those that are thought to have a blob of `size` bytes. As moby does
 * (distribution/push_v2.go, getMaxMountAndExistenceCheckAttempts and getRepositoryMountCandidates): the more there is
 * to send, the more tries it is worth; and who shares more of the path is likelier to let us read.
 */
export function mountSources(from: readonly string[], into: string, size: number | undefined): readonly string[] {
  const sources = from.filter((name) => name !== into);
  return sources.sort((a, b) => sharedPath(b, into) - sharedPath(a, into)).slice(0, triesFor(size));
}

function triesFor(size: number | undefined): number {
  if (size === undefined) return 3;
  if (size > MIDDLE) return 4;
  return size > SMALL ? 3 : 1;
}

/** Path components that two repositories have in common from the left. */
function sharedPath(a: string, b: string): number {
  const [left, right] = [a.split('/'), b.split('/')];
  const differs = left.findIndex((component, index) => component !== right[index]);
  return differs < 0 ? left.length : differs;
}
