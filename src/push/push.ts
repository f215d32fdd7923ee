import type { SavePlan } from '../cache/save.ts';
import { formatReference, type Reference, withTarget } from '../oci/reference.ts';
import type { Digest } from '../oci/types.ts';
import { findImage } from '../source/find/find.ts';
import type { FoundImage } from '../source/source.ts';
import { openEngineStore } from '../source/store/open.ts';
import { commitMoved } from './commit.ts';
import { activeRegistries, closeContext, openContext, type PushContext } from './context.ts';
import { tellDryRun } from './dry-run.ts';
import { CancelledError, PushError } from './error.ts';
import type { Report } from './events.ts';
import { mayFallBack, pushByEngine } from './fallback.ts';
import { move } from './move.ts';
import type { MergeRequest, PushRequest } from './options.ts';
import { metadataOf, type PushResult } from './result.ts';
import type { KeptLayer } from './upload-queue.ts';

/** A push that has run this long will not come to an end: a job on GitHub ends after 6 hours. Milliseconds. */
const DEADLINE_MS = 6 * 60 * 60 * 1000;

/**
 * Pushes an image to all its destinations.
 * Gives the digest that every registry has confirmed, and for each destination that failed its error; throws when the
 * image can't be found or read, when every destination failed, and CancelledError when `signal` was aborted.
 */
export async function push(
  request: PushRequest | MergeRequest,
  report: Report,
  cancel: AbortSignal,
): Promise<PushResult> {
  if (request.kind === 'merge') throw new PushError('Merge', 'a merge is not possible in this version');
  const signal = AbortSignal.any([cancel, AbortSignal.timeout(DEADLINE_MS)]);
  tellLowered(request, report);
  for (const text of request.notices) report({ type: 'notice', text });
  report({ type: 'phase', phase: 'Resolve' });
  const job = await openContext(request, report, signal);
  try {
    return await run(job);
  } catch (error) {
    if (cancel.aborted) throw new CancelledError(error);
    throw error;
  } finally {
    await closeContext(job);
  }
}

/** Registries know no upper-case repositories; a push under another name than the one written is told. */
function tellLowered({ destinations }: PushRequest, report: Report): void {
  for (const reference of destinations.filter(({ lowered }) => lowered)) {
    report({ type: 'notice', text: `The repository is lower-cased: ${formatReference(reference)}` });
  }
}

/** The recipe. */
async function run(job: PushContext): Promise<PushResult> {
  const { request } = job;
  const found = await job.stats.time('resolve', () => resolve(job));
  try {
    if (request.dryRun) {
      await tellDryRun(job, found);
      return resultOf(job, found, { exported: 'nothing' });
    }
    const pushed = await chunkedPush(job, found).catch((error: unknown) => failAll(job, found, error));
    await pushByEngine(job, found);
    return resultOf(job, found, pushed);
  } finally {
    await found.close?.();
  }
}

interface Pushed {
  readonly exported: string;
  readonly savePlan?: SavePlan | undefined;
}

/** The push itself: what is missing moves, then the manifests are put. */
async function chunkedPush(job: PushContext, found: FoundImage): Promise<Pushed> {
  const moved = await job.stats.time('transfer', () => move(job, found));
  job.report({ type: 'phase', phase: 'Manifest' });
  const { exported, kept } = await job.stats.time('manifest', () => commitMoved(job, found, moved));
  activeRegistries(job);
  return { exported, savePlan: await record(job, kept) };
}

/** Notes in the cache what the push knows of plain layers now; an image whose layers are all compressed has none. */
async function record({ cache }: PushContext, kept: readonly KeptLayer[]): Promise<SavePlan | undefined> {
  return kept.length > 0 ? (await cache?.get())?.record(kept) : undefined;
}

/** A failure of the export ends the push, unless the engine may do what is left. Failures of registries are in their books. */
function failAll(job: PushContext, found: FoundImage, error: unknown): Pushed {
  job.signal.throwIfAborted();
  const isExport = job.registries.some(({ isActive: alive }) => alive);
  if (isExport && !mayFallBack(job, found, error)) throw error;
  for (const target of job.registries) target.fail(error);
  return { exported: 'engine' };
}

/** Closes the books. Throws the failure of a push to one destination only: there is nothing else to tell. */
function resultOf(job: PushContext, found: FoundImage, { exported, savePlan }: Pushed): PushResult {
  const { registries: targets, stats: ledger, spool } = job;
  const destinations = targets.flatMap((target) => target.repositories);
  const failures = destinations.flatMap((destination) => destination.failures);
  const [first] = failures;
  if (first && destinations.length === 1 && !targets[0]?.isActive) throw first.error;
  const pushed = firstPushed(job);
  return {
    digest: pushed?.digest,
    imageId: found.imageId,
    image: pushed && formatReference(withTarget(pushed.reference, { digest: pushed.digest })),
    metadata: metadataOf({ targets, ledger, exported, spoolPeak: spool.made?.peakBytes ?? 0 }),
    savePlan,
    failures,
  };
}

/** The first of the destinations asked for that was pushed, and what it names now. */
function firstPushed({
  request,
  registries: targets,
}: PushContext): { reference: Reference; digest: Digest } | undefined {
  const destinations = targets.flatMap((target) => target.repositories);
  for (const reference of request.destinations) {
    const digest = destinations.map((destination) => destination.digestOf(reference)).find((one) => one !== undefined);
    if (digest) return { reference, digest };
  }
  return undefined;
}

/** Finds the image, and learns what registries tell of its layers where that is of use for certain. */
async function resolve(job: PushContext): Promise<FoundImage> {
  const { request, registries: targets, report, signal } = job;
  const { image } = request.images[0]!;
  const way = request.export === 'store' ? 'store' : 'auto';
  const found = await findImage({
    image,
    engine: request.engine,
    export: request.export,
    env: request.env,
    tempDir: request.workDir,
    signal,
    debug: (text) => report({ type: 'debug', text }),
    notice: (text) => report({ type: 'info', text }),
    storeOpener: (image, options) => openEngineStore(image, { ...options, export: way, env: request.env }),
  });
  if (found.diffIds) job.known.addConfig(found.imageId, found.diffIds);
  // An image with manifests of its own hardly ever has plain layers, and of others all that can be learnt is where to mount them from.
  const isFromElsewhere =
    request.cacheFrom !== undefined || targets.some(({ repositories: destinations }) => destinations.length > 1);
  if (found.root === undefined || isFromElsewhere) await job.readKnownLayers();
  report({
    type: 'info',
    text: `Image ${image}: ${found.imageId}${found.engine ? ` in ${found.engine}` : ''}`,
  });
  return found;
}
