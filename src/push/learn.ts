/**
 * Learns known layers from images pushed earlier, whose config and manifest pair diffIDs with blobs position by
 * position. Whatever can't be read teaches nothing.
 */
import {
  type Descriptor,
  type Digest,
  type ImageConfig,
  type Index,
  isDigest,
  isImageConfigType,
  isIndexType,
  isManifestType,
  type Manifest,
} from '../image/oci.ts';
import type { Reference } from '../image/reference.ts';
import type { Repository } from '../registry/repository.ts';
import { explain } from './error.ts';
import type { Report } from './events.ts';
import type { KnownLayers } from './known.ts';
import type { Target } from './target.ts';

/** Configs larger than this are not read for a hint, bytes. Real ones are a few KiB. */
const MAX_CONFIG_BYTES = 4 * 1024 * 1024;

/** Platforms of one index that are looked at: each costs two requests. */
const MAX_CHILDREN = 8;

/**
 * Adds what images pushed earlier tell: all are asked at once, and what the first ones say comes first, so that two runs
 * choose the same blobs. Never rejects.
 */
export async function learnFromRegistry(
  known: KnownLayers,
  targets: readonly Target[],
  cacheFrom: readonly Reference[] | undefined,
  options: { report: Report; signal: AbortSignal },
): Promise<void> {
  const teachers = targets.flatMap((target) => teachersOf(target, cacheFrom, options));
  const lessons = await Promise.all(teachers.map((teacher) => lessonOf(teacher, options.report)));
  for (const { host, repository, layers, blobs } of lessons) {
    for (const digest of blobs) known.addRepository(host, digest, repository);
    for (const [diffId, layer] of layers) known.add(diffId, layer);
  }
}

/** An image that may teach. */
interface Teacher {
  readonly host: string;
  readonly repository: Repository;
  /** A tag or a digest. */
  readonly reference: string;
  readonly signal: AbortSignal;
}

/** What an image taught. */
interface Lesson {
  readonly host: string;
  readonly repository: string;
  readonly layers: [Digest, Descriptor][];
  readonly blobs: Digest[];
}

function teachersOf(
  { host, registry, destinations }: Target,
  cacheFrom: readonly Reference[] | undefined,
  { report, signal }: { report: Report; signal: AbortSignal },
): Teacher[] {
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

async function lessonOf(teacher: Teacher, report: Report): Promise<Lesson> {
  const { host, repository, reference, signal } = teacher;
  const lesson: Lesson = { host, repository: repository.name, layers: [], blobs: [] };
  try {
    for (const manifest of await manifestsOf(teacher)) await learnFromManifest(teacher, manifest, lesson);
  } catch (error) {
    const text = `cache-from ${repository.name}:${reference}: ${explain(error).message}`;
    if (!signal.aborted) report({ type: 'debug', text });
  }
  return lesson;
}

/** The manifest, or those that an index names. Indexes in an index teach nothing: they could name each other without end. */
async function manifestsOf({ repository, reference, signal }: Teacher): Promise<Manifest[]> {
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

async function learnFromManifest(teacher: Teacher, { config, layers }: Manifest, lesson: Lesson): Promise<void> {
  lesson.blobs.push(...layers.map(({ digest }) => digest).filter(isDigest));
  if (!isImageConfigType(config.mediaType)) return;
  const options = { maxBytes: MAX_CONFIG_BYTES, signal: teacher.signal };
  const bytes = await teacher.repository.getBlob(config.digest, options);
  if (!bytes) return;
  const diffIds = (JSON.parse(bytes.toString('utf8')) as Partial<ImageConfig>).rootfs?.diff_ids ?? [];
  // Not one to one: the config is not that of these layers, and nothing can be said of any of them.
  if (diffIds.length !== layers.length) return;
  for (const [position, layer] of layers.entries()) {
    const diffId = diffIds[position];
    if (isDigest(diffId) && isLayer(layer)) lesson.layers.push([diffId, layer]);
  }
}

/** Whether a row of somebody's manifest is what it should be. */
const isLayer = ({ mediaType, digest, size }: Descriptor): boolean =>
  typeof mediaType === 'string' && isDigest(digest) && Number.isSafeInteger(size) && size > 0;
