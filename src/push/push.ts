/** A push from top to bottom: resolve, plan, export and upload, commit. Image bytes flow once, and only those that are missing. */
import type { SavePlan } from '../cache/layer-cache.ts';
import { findImage } from '../image/find.ts';
import type { Descriptor, Digest } from '../image/oci.ts';
import { formatReference, withTarget } from '../image/reference.ts';
import type { FoundImage } from '../image/source.ts';
import { openEngineStore } from '../image/store/open.ts';
import { commit, type Documents, documentsOf } from './commit.ts';
import { tellDryRun } from './dry-run.ts';
import { CancelledError, PushError } from './error.ts';
import type { Report } from './events.ts';
import { mayFallBack, pushByEngine } from './fallback.ts';
import { type Job, livingTargets } from './job.ts';
import { learnFromRegistry } from './known.ts';
import { type Moved, move } from './move.ts';
import { closeJob, openJob } from './open-job.ts';
import type { PushRequest } from './request.ts';
import { metadataOf, type PushResult } from './result.ts';

/** A push that has run this long will not come to an end: a job on GitHub ends after 6 hours. Milliseconds. */
const DEADLINE_MS = 6 * 60 * 60 * 1000;

/**
 * Pushes an image to all its destinations.
 * Gives the digest that every registry has confirmed, and for each destination that failed its error; throws when the
 * image can't be found or read, when every destination failed, and CancelledError when `signal` was aborted.
 */
export async function push(request: PushRequest, report: Report, cancel: AbortSignal): Promise<PushResult> {
  const signal = AbortSignal.any([cancel, AbortSignal.timeout(DEADLINE_MS)]);
  tellLowered(request, report);
  const job = await openJob(request, report, signal);
  try {
    return await run(job);
  } catch (error) {
    if (cancel.aborted) throw new CancelledError(error);
    throw error;
  } finally {
    await closeJob(job);
  }
}

/** Registries know no upper-case repositories; a push under another name than the one written is told. */
function tellLowered({ destinations }: PushRequest, report: Report): void {
  for (const reference of destinations.filter(({ lowered }) => lowered)) {
    report({ type: 'notice', text: `The repository is lower-cased: ${formatReference(reference)}` });
  }
}

/** The recipe. */
async function run(job: Job): Promise<PushResult> {
  const { report, request } = job;
  report({ type: 'phase', phase: 'Resolve' });
  const found = await job.ledger.time('resolve', () => resolve(job));
  if (request.dryRun) {
    await tellDryRun(job, found);
    return resultOf(job, found, undefined, 'nothing');
  }
  const pushed = await chunkedPush(job, found).catch((error: unknown) => failAll(job, found, error));
  const digest = (await pushByEngine(job, found)) ?? pushed?.digest;
  return resultOf(job, found, digest, pushed?.exported ?? 'engine', pushed?.savePlan);
}

interface Pushed {
  readonly digest: Digest;
  readonly exported: string;
  readonly savePlan: SavePlan | undefined;
}

/** The push itself: what is missing moves, then the manifests are put. */
async function chunkedPush(job: Job, found: FoundImage): Promise<Pushed> {
  const moved = await job.ledger.time('transfer', () => move(job, found, new Set()));
  job.report({ type: 'phase', phase: 'Manifest' });
  const documents = await job.ledger.time('manifest', () => commitMoved(job, found, moved));
  const savePlan = await job.cache?.record(moved.transfer.kept);
  return { digest: documents.root.digest, exported: moved.exported, savePlan };
}

/** A failure of the export or of every target ends the push, unless the engine may do what is left. */
function failAll(job: Job, found: FoundImage, error: unknown): undefined {
  if (!mayFallBack(job, found, error)) throw error;
  for (const target of job.targets) target.fail(error);
}

/** Closes the books. Throws the failure when not one destination was reached. */
function resultOf(
  job: Job,
  found: FoundImage,
  digest: Digest | undefined,
  exported: string,
  savePlan?: SavePlan,
): PushResult {
  livingTargets(job);
  const { targets, ledger, spool, request } = job;
  const failures = targets.filter(({ alive }) => !alive).map(({ host, failure }) => ({ host, error: failure }));
  const first = request.destinations[0];
  return {
    digest,
    imageId: found.imageId,
    image: first && digest ? formatReference(withTarget(first, { digest })) : undefined,
    metadata: metadataOf({ targets, ledger, digest, exported, spoolPeak: spool.peakBytes }),
    savePlan,
    failures,
  };
}

/**
 * Commits what was moved. Blobs that a registry then denies are sent again without believing its HEAD, once
 * (registry rules, T9): some answer HEAD from a fallback or for a blob that is being deleted.
 */
async function commitMoved(job: Job, found: FoundImage, moved: Moved): Promise<Documents> {
  const documents = documentsOf(moved.tree, moved.transfer.compressed);
  const denied = await commit(job, documents);
  if (denied.size === 0) return documents;
  job.report({ type: 'notice', text: `The registry lacks ${[...denied].join(', ')} after all: sending it again` });
  const again = await move(job, found, keysOf(denied, moved.transfer.compressed));
  const remade = documentsOf(again.tree, again.transfer.compressed);
  const still = await commit(job, remade);
  if (still.size > 0) throw deniedError(still);
  return remade;
}

/** The pieces that blobs stand for: a compressed layer is known to its source by its diffID. */
function keysOf(digests: ReadonlySet<Digest>, compressed: ReadonlyMap<Digest, Descriptor>): ReadonlySet<Digest> {
  const plain = [...compressed].filter(([, { digest }]) => digests.has(digest)).map(([diffId]) => diffId);
  return new Set([...digests, ...plain]);
}

const deniedError = (digests: ReadonlySet<Digest>): PushError =>
  new PushError('Manifest', `the registry took ${[...digests].join(', ')} and then says that it is unknown, twice`, {
    remedy: 'look at the registry and its storage: it loses blobs that it has confirmed',
  });

/** Finds the image, and learns what the registry knows of its layers, at the same time. */
async function resolve(job: Job): Promise<FoundImage> {
  const { request, known, targets, report, signal } = job;
  const way = request.export === 'store' ? 'store' : 'auto';
  const [found] = await Promise.all([
    findImage({
      image: request.image,
      engine: request.engine,
      export: request.export,
      env: request.env,
      tempDir: request.workDir,
      signal,
      debug: (text) => report({ type: 'debug', text }),
      storeOpener: (image, options) => openEngineStore(image, { ...options, export: way, env: request.env }),
    }),
    learnFromRegistry(known, targets, request.cacheFrom, report),
  ]);
  report({
    type: 'info',
    text: `Image ${request.image}: ${found.imageId}${found.engine ? ` in ${found.engine}` : ''}`,
  });
  return found;
}
