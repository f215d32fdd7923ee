/**
 * Known layers: which compressed blob stands for a diffID. Learnt from this machine's spool, the Actions cache, and
 * from images pushed earlier, whose config and manifest pair diffIDs with blobs position by position. All of it is a
 * hint: a blob counts as there only after the registry said so.
 */
import type { LayerCache } from '../cache/layer-cache.ts';
import {
  type Descriptor,
  type Digest,
  type ImageConfig,
  type Index,
  isDigest,
  isForeignLayer,
  isImageConfigType,
  isIndexType,
  isManifestType,
  type Manifest,
} from '../image/oci.ts';
import type { Reference } from '../image/reference.ts';
import { layerMediaType } from '../layer/compress/compression.ts';
import type { Repository } from '../registry/repository.ts';
import { explain } from './error.ts';
import type { Report } from './events.ts';
import type { Target } from './target.ts';

/** Configs larger than this are not read for a hint, bytes. Real ones are a few KiB. */
const MAX_CONFIG_BYTES = 4 * 1024 * 1024;

/** Platforms of one index that are looked at: each costs two requests. */
const MAX_CHILDREN = 8;

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

  /** The blobs that may stand for a layer, the likeliest first. */
  candidates(diffId: Digest): readonly Descriptor[] {
    return this.#byDiffId.get(diffId) ?? [];
  }

  /** The repositories of a registry that are likely to have a blob. */
  repositories(host: string, digest: Digest): readonly string[] {
    return [...(this.#repositories.get(`${host} ${digest}`) ?? [])];
  }
}

/** Adds what the spool and the Actions cache know. Never rejects. */
export async function learnFromCache(known: KnownLayers, cache: LayerCache | undefined): Promise<void> {
  for (const [diffId, descriptor] of (await cache?.known()) ?? []) known.add(diffId, descriptor);
}

/** Adds what images pushed earlier tell: all of them at once. Never rejects: whatever can't be read teaches nothing. */
export async function learnFromRegistry(
  known: KnownLayers,
  targets: readonly Target[],
  cacheFrom: readonly Reference[] | undefined,
  report: Report,
): Promise<void> {
  const lessons = targets.flatMap((target) =>
    teachers(target, cacheFrom, report).map(async ({ repository, reference }) => {
      try {
        await learnFromImage(known, target, repository, reference);
      } catch (error) {
        if (target.signal.aborted) return;
        report({ type: 'debug', text: `cache-from ${repository.name}:${reference}: ${explain(error).message}` });
      }
    }),
  );
  await Promise.all(lessons);
}

interface Teacher {
  readonly repository: Repository;
  readonly reference: string;
}

function teachers(target: Target, cacheFrom: readonly Reference[] | undefined, report: Report): Teacher[] {
  if (cacheFrom === undefined) {
    return target.repositories.flatMap(({ repository, references }) =>
      [...new Set([...references.map(({ tag }) => tag ?? 'latest'), 'latest'])].map((reference) => ({
        repository,
        reference,
      })),
    );
  }
  const here = cacheFrom.filter((reference) => reference.apiHost === target.host);
  if (here.length === 0 && cacheFrom.length > 0) {
    report({ type: 'debug', text: `cache-from names no image in ${target.host}: nothing is learnt from it` });
  }
  return here.map((reference) => ({
    repository: target.registry.repository(reference.repository),
    reference: reference.digest ?? reference.tag ?? 'latest',
  }));
}

async function learnFromImage(
  known: KnownLayers,
  target: Target,
  repository: Repository,
  reference: string,
): Promise<void> {
  const found = await repository.getManifest(reference, target.signal);
  if (!found) return;
  const { mediaType } = found.descriptor;
  if (isIndexType(mediaType)) {
    const { manifests } = JSON.parse(found.bytes.toString('utf8')) as Index;
    const children = manifests.filter((child) => isManifestType(child.mediaType)).slice(0, MAX_CHILDREN);
    await Promise.all(children.map((child) => learnFromImage(known, target, repository, child.digest)));
  } else if (isManifestType(mediaType)) {
    await learnFromManifest(known, target, repository, JSON.parse(found.bytes.toString('utf8')) as Manifest);
  }
}

async function learnFromManifest(
  known: KnownLayers,
  target: Target,
  repository: Repository,
  manifest: Manifest,
): Promise<void> {
  for (const layer of manifest.layers) known.addRepository(target.host, layer.digest, repository.name);
  if (!isImageConfigType(manifest.config.mediaType)) return;
  const options = { maxBytes: MAX_CONFIG_BYTES, signal: target.signal };
  const bytes = await repository.getBlob(manifest.config.digest, options);
  if (!bytes) return;
  const diffIds = (JSON.parse(bytes.toString('utf8')) as ImageConfig).rootfs?.diff_ids ?? [];
  // Not one to one: the config is not that of these layers, and nothing can be said of any of them.
  if (diffIds.length !== manifest.layers.length) return;
  for (const [position, diffId] of diffIds.entries()) {
    const layer = manifest.layers[position];
    if (isDigest(diffId) && layer && isDigest(layer.digest) && Number.isSafeInteger(layer.size))
      known.add(diffId, layer);
  }
}
