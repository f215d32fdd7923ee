/** The use case: a push of images, read like a recipe. */

import { isCompressedLayerType } from '../cache/known-layers.ts';
import type { RecordedLayer } from '../cache/layer-cache.ts';
import type { SavePlan } from '../cache/save.ts';
import { CancelledError } from '../common/error.ts';
import { formatReference } from '../oci/reference.ts';
import type { Digest } from '../oci/types.ts';
import { registrySource } from '../source/registry/registry.ts';
import type { FoundImage } from '../source/source.ts';
import { commit, type TransferredImage, throwFirstFailure } from './commit.ts';
import {
  activeRegistries,
  closeContext,
  contextOf,
  openContext,
  type PushContext,
  type SharedContext,
} from './context.ts';
import type { Report } from './events.ts';
import { mayFallBack, pushByEngine } from './fallback.ts';
import { blobsOf, type ImageBlob } from './image-blobs.ts';
import { merge } from './merge.ts';
import type { MergeRequest, PushRequest } from './options.ts';
import { reportDryRun, WORTH_ASKING_BYTES } from './plan.ts';
import { compressionNotice, resolve } from './resolve.ts';
import { type PushResult, resultOf } from './result.ts';
import type { TargetRepository } from './target-repository.ts';
import { transferImage } from './transfer-image.ts';

/** A push that has run this long will not come to an end: a job on GitHub ends after 6 hours. Milliseconds. */
const DEADLINE_MS = 6 * 60 * 60 * 1000;

/**
 * Pushes images to their destinations, or merges what lies in registries. Resolves to the digests that the registries
 * have confirmed, and for each destination that failed its error. Throws when an image can't be found or read, when
 * every destination of a single image failed, when any of several images did (no tag has moved then), and
 * CancelledError when `cancel` was aborted.
 */
export async function push(
  request: PushRequest | MergeRequest,
  report: Report,
  cancel: AbortSignal,
): Promise<PushResult> {
  const signal = AbortSignal.any([cancel, AbortSignal.timeout(DEADLINE_MS)]);
  reportNotices(request, report);
  report({ type: 'phase', phase: 'Resolve' });
  const shared = await openContext(request, report, signal);
  try {
    if (shared.request.kind === 'push') return await pushImages({ ...shared, request: shared.request });
    return await merge({ ...shared, request: shared.request });
  } catch (error) {
    if (cancel.aborted) throw new CancelledError(error);
    throw error;
  } finally {
    await closeContext(shared);
  }
}

/**
 * Inputs without effect, and repositories under another name than the one written: registries know no upper-case ones.
 */
function reportNotices(request: PushRequest | MergeRequest, report: Report): void {
  const { destinations, notices, annotations } = request;
  const images = request.kind === 'push' ? request.images : [];
  const sources = images.flatMap(({ image }) => registrySource(image) ?? []);
  const lowered = [...destinations, ...sources].filter((reference) => reference.lowered).map(formatReference);
  const forIndex = Object.keys(request.kind === 'push' ? annotations.index : {}).map((key) => `index:${key}`);
  const unused =
    forIndex.length > 0 ? [`annotations: only a merge composes an index; not used: ${forIndex.join(', ')}`] : [];
  for (const text of [...lowered.map((name) => `The repository is lower-cased: ${name}`), ...notices, ...unused])
    report({ type: 'notice', text });
}

async function pushImages(shared: SharedContext<PushRequest>): Promise<PushResult> {
  const { request, stats } = shared;
  const contexts = request.images.map((image) => contextOf(shared, image));
  const images = await stats.time('resolve', () => resolveAll(contexts));
  try {
    if (request.dryRun) {
      for (const { context, found } of images) await reportDryRun(context, found);
      return resultOf(shared, images, { exported: 'nothing', changed: false });
    }
    const [first] = images;
    if (images.length > 1 || !first) return resultOf(shared, images, await pushAll(shared, images));
    const pushed = await pushAll(shared, images).catch((error: unknown) => failAll(first, error));
    await pushByEngine(first.context, first.found);
    return resultOf(shared, images, pushed);
  } finally {
    await Promise.allSettled(images.map(({ found }) => found.close?.()));
  }
}

interface ResolvedImage {
  readonly context: PushContext;
  readonly found: FoundImage;
}

/** Finds all images at once; when one can't be found, what the others have opened is closed. */
async function resolveAll(contexts: readonly PushContext[]): Promise<ResolvedImage[]> {
  const ended = await Promise.allSettled(contexts.map(async (context) => ({ context, found: await resolve(context) })));
  const images = ended.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  const failed = ended.find((one) => one.status === 'rejected');
  if (!failed) return images;
  await Promise.allSettled(images.map(({ found }) => found.close?.()));
  throw failed.reason;
}

interface Pushed {
  /** Where the bytes came from. */
  readonly exported: string;
  readonly changed: boolean;
  readonly savePlan?: SavePlan | undefined;
}

const has = (target: TargetRepository, digest: Digest): boolean => target.holds(digest);

/**
 * The push itself: blobs move image by image, so that shared ones go once a registry; then all manifests, then all
 * tags.
 */
async function pushAll(shared: SharedContext<PushRequest>, images: readonly ResolvedImage[]): Promise<Pushed> {
  const { stats, report, request } = shared;
  const transferred: TransferredImage[] = [];
  for (const image of images) {
    const { context, found } = image;
    transferred.push({ ...image, transferred: await stats.time('transfer', () => transferImage(context, found)), has });
    if (images.length > 1) throwFirstFailure(images);
  }
  const unchanged = transferred.flatMap(
    ({ context, found, transferred: { tree } }) => compressionNotice(context, found.name, tree) ?? [],
  );
  if (unchanged[0] !== undefined) report({ type: 'notice', text: unchanged[0] });
  report({ type: 'phase', phase: 'Manifest' });
  const { changed } = await stats.time('manifest', () =>
    commit(transferred, shared, { byDigest: request.pushByDigest }),
  );
  for (const { context } of images) activeRegistries(context);
  const exported = [...new Set(transferred.map((image) => image.transferred.exported))].join(', ');
  return { exported, changed, savePlan: await record(shared, transferred.flatMap(knownNow)) };
}

/**
 * What a cache may know of an image's layers now: the blobs that were made of them, and where those and large ones that
 * came compressed have been pushed to, for other repositories to mount them.
 */
function knownNow({ context, transferred: { kept, tree } }: TransferredImage): RecordedLayer[] {
  const repositories = context.registries.flatMap(({ host, active }) =>
    active.map((one) => `${host}/${one.repository.name}`),
  );
  const isCompressed = ({ plain, mediaType }: ImageBlob) => !plain && isCompressedLayerType(mediaType);
  const blobs = blobsOf(tree).filter((blob) => isCompressed(blob) && (blob.size ?? 0) >= WORTH_ASKING_BYTES);
  const compressed = blobs.map(({ key, mediaType, size = 0 }) => ({
    diffId: key,
    descriptor: { mediaType, digest: key, size },
  }));
  return [...kept, ...compressed].map((layer) => ({ ...layer, repositories }));
}

/** Records in the cache what the push knows of layers now. */
async function record({ cache }: SharedContext, known: readonly RecordedLayer[]): Promise<SavePlan | undefined> {
  const layers = new Map<Digest, RecordedLayer>();
  for (const layer of known) {
    const { repositories = [] } = layers.get(layer.diffId) ?? {};
    const all = [...new Set([...repositories, ...(layer.repositories ?? [])])];
    layers.set(layer.diffId, { ...layers.get(layer.diffId), ...layer, repositories: all });
  }
  return layers.size > 0 ? (await cache?.get())?.record([...layers.values()]) : undefined;
}

/** A failure of the export ends the push, unless the engine may do what is left. Registries keep their own failures. */
function failAll({ context, found }: ResolvedImage, error: unknown): Pushed {
  context.signal.throwIfAborted();
  const isExport = context.registries.some(({ isActive }) => isActive);
  if (isExport && !mayFallBack(context, found, error)) throw error;
  for (const registry of context.registries) registry.fail(error);
  return { exported: 'engine', changed: true };
}
