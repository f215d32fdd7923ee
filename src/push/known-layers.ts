/**
 * Known layers: which compressed blob stands for a diffID. Learnt from this machine's spool, the Actions cache, and
 * from images pushed earlier (learn.ts). All of it is a hint: a blob counts as there only after the registry said so.
 */
import { layerMediaType } from '../blob/compress/compression.ts';
import type { Reference } from '../oci/reference.ts';
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
} from '../oci/types.ts';
import type { Repository } from '../registry/repository.ts';
import { explain } from './error.ts';
import type { Report } from './events.ts';
import type { TargetRegistry } from './registries.ts';

export class KnownLayers {
  readonly #byDiffId = new Map<Digest, Descriptor[]>();
  readonly #repositories = new Map<string, Set<string>>();
  readonly #diffIdsByConfig = new Map<Digest, readonly Digest[]>();
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

  /** Notes the diffIDs of a config that need not be fetched: that of the image itself. */
  addConfig(digest: Digest, diffIds: readonly Digest[]): void {
    this.#diffIdsByConfig.set(digest, diffIds);
  }

  /** The diffIDs of a config; undefined when only its bytes tell. */
  diffIdsOf(config: Digest): readonly Digest[] | undefined {
    return this.#diffIdsByConfig.get(config);
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

/**
 * Learns known layers from images pushed earlier, whose config and manifest pair diffIDs with blobs position by
 * position. Whatever can't be read teaches nothing.
 */

/** Configs larger than this are not read for a hint, bytes. Real ones are a few KiB. */
const MAX_CONFIG_BYTES = 4 * 1024 * 1024;

/** Platforms of one index that are looked at: each costs two requests. */
const MAX_CHILDREN = 8;

/**
 * Adds what images pushed earlier tell: all are asked at once, and what the first ones say comes first, so that two runs
 * choose the same blobs. Never rejects.
 */
export async function readKnownLayers(
  known: KnownLayers,
  targets: readonly TargetRegistry[],
  cacheFrom: readonly Reference[] | undefined,
  options: { report: Report; signal: AbortSignal },
): Promise<void> {
  const teachers = targets.flatMap((target) => teachersOf(target, cacheFrom, options));
  const lessons = await Promise.all(teachers.map((teacher) => lessonOf(teacher, known, options.report)));
  for (const { host, repository, layers, blobs } of lessons) {
    for (const digest of blobs) known.addRepository(host, digest, repository);
    for (const [diffId, layer] of layers) known.add(diffId, layer);
  }
}

/** An image that may teach. */
interface CacheImage {
  readonly host: string;
  readonly repository: Repository;
  /** A tag or a digest. */
  readonly reference: string;
  readonly signal: AbortSignal;
}

/** What an image taught. */
interface KnownPairs {
  readonly host: string;
  readonly repository: string;
  readonly layers: [Digest, Descriptor][];
  readonly blobs: Digest[];
}

function teachersOf(
  { host, registry, repositories: destinations }: TargetRegistry,
  cacheFrom: readonly Reference[] | undefined,
  { report, signal }: { report: Report; signal: AbortSignal },
): CacheImage[] {
  if (cacheFrom === undefined) {
    return destinations.flatMap((destination) => {
      const tags = [...destination.references.map(({ tag }) => tag ?? 'latest'), 'latest'];
      const { repository, signal } = destination;
      return [...new Set(tags)].map((reference) => ({ host, repository, reference, signal }));
    });
  }
  const here = cacheFrom.filter((reference) => reference.apiHost === host);
  if (here.length === 0 && cacheFrom.length > 0) {
    report({ type: 'debug', text: `cache-from names no image in ${host}: nothing is learnt from it` });
  }
  return here.map(({ repository, digest, tag }) => ({
    host,
    repository: registry.repository(repository),
    reference: digest ?? tag ?? 'latest',
    signal,
  }));
}

async function lessonOf(teacher: CacheImage, known: KnownLayers, report: Report): Promise<KnownPairs> {
  const { host, repository, reference, signal } = teacher;
  const lesson: KnownPairs = { host, repository: repository.name, layers: [], blobs: [] };
  try {
    for (const manifest of await manifestsOf(teacher)) await learnFromManifest(teacher, known, manifest, lesson);
  } catch (error) {
    const text = `cache-from ${repository.name}:${reference}: ${explain(error).message}`;
    if (!signal.aborted) report({ type: 'debug', text });
  }
  return lesson;
}

/** The manifest, or those that an index names. Indexes in an index teach nothing: they could name each other without end. */
async function manifestsOf({ repository, reference, signal }: CacheImage): Promise<Manifest[]> {
  const root = await repository.getManifest(reference, signal);
  if (!root) return [];
  const document: unknown = JSON.parse(root.bytes.toString('utf8'));
  if (isManifestType(root.descriptor.mediaType)) return [document as Manifest];
  if (!isIndexType(root.descriptor.mediaType)) return [];
  const named = (document as Index).manifests.filter(({ mediaType }) => isManifestType(mediaType));
  const children = await Promise.all(
    named.slice(0, MAX_CHILDREN).map(({ digest }) => repository.getManifest(digest, signal)),
  );
  return children
    .filter((child) => child !== undefined && isManifestType(child.descriptor.mediaType))
    .map((child) => JSON.parse(child?.bytes.toString('utf8') ?? '') as Manifest);
}

async function learnFromManifest(
  teacher: CacheImage,
  known: KnownLayers,
  { config, layers }: Manifest,
  lesson: KnownPairs,
): Promise<void> {
  lesson.blobs.push(...layers.map(({ digest }) => digest).filter(isDigest));
  if (!isImageConfigType(config.mediaType)) return;
  const diffIds = known.diffIdsOf(config.digest) ?? (await fetchDiffIds(teacher, config.digest));
  // Not one to one: the config is not that of these layers, and nothing can be said of any of them.
  if (diffIds?.length !== layers.length) return;
  for (const [position, layer] of layers.entries()) {
    const diffId = diffIds[position];
    if (isDigest(diffId) && isLayer(layer)) lesson.layers.push([diffId, layer]);
  }
}

/** The diffIDs of a config in the registry; undefined when it is not there. */
async function fetchDiffIds(teacher: CacheImage, config: Digest): Promise<readonly Digest[] | undefined> {
  const bytes = await teacher.repository.getBlob(config, { maxBytes: MAX_CONFIG_BYTES, signal: teacher.signal });
  return bytes && ((JSON.parse(bytes.toString('utf8')) as Partial<ImageConfig>).rootfs?.diff_ids ?? []);
}

/** Whether a row of somebody's manifest is what it should be. */
const isLayer = ({ mediaType, digest, size }: Descriptor): boolean =>
  typeof mediaType === 'string' && isDigest(digest) && Number.isSafeInteger(size) && size > 0;

/** Where a blob is mounted from, and how often that is tried. */

/** Below this a mount that is refused costs as much as sending the blob, bytes. */
const SMALL = 100 * 1024;
const MIDDLE = 10 * 1024 * 1024;

/**
 * The repositories to try, the likeliest first, of those that are thought to have a blob of `size` bytes. As moby does
 * (distribution/push_v2.go, getMaxMountAndExistenceCheckAttempts and getRepositoryMountCandidates): the more there is to
 * send, the more tries it is worth; and who shares more of the path is likelier to let us read.
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
