/** Opens and closes what one push needs: registries, compressor, spool, cache. */
import { join } from 'node:path';
import type { LayerCache } from '../cache/layer-cache.ts';
import { COMPRESSIONS } from '../layer/compress/compression.ts';
import type { Report } from './events.ts';
import type { Job } from './job.ts';
import { KnownLayers } from './known.ts';
import { Ledger } from './ledger.ts';
import { OnDemand } from './on-demand.ts';
import type { PushRequest } from './request.ts';
import type { Target } from './target.ts';
import { closeTargets, openTargets } from './targets.ts';

/** Opens everything that each push needs, and lays out what some do; no byte of an image is sent yet. The caller closes it. Throws for unusable credentials. */
export async function openJob(request: PushRequest, report: Report, signal: AbortSignal): Promise<Job> {
  const { compression, workDir } = request;
  const level = request.compressionLevel ?? COMPRESSIONS[compression].defaultLevel;
  const ledger = new Ledger();
  const targets = await openTargets(request, { report, signal, ledger });
  for (const { registry } of targets) registry.greet();
  const spool = new OnDemand(async () => {
    const { Spool } = await late();
    return Spool.open(join(workDir, `spool-${process.pid}`));
  });
  const pool = new OnDemand(async () => {
    const { CompressorPool } = await late();
    return new CompressorPool({ compression, level });
  });
  const cache = request.cache ? cacheFor(request, level, targets, report, signal) : undefined;
  const known = new KnownLayers(compression);
  const lessons = once(async () => {
    const { learnFromRegistry } = await late();
    await learnFromRegistry(known, targets, request.cacheFrom, { report, signal });
  });
  return { request, report, signal, targets, ledger, known, lessons, cache, spool, pool };
}

const late = () => import('./late.ts');

function once(work: () => Promise<void>): () => Promise<void> {
  let working: Promise<void> | undefined;
  return () => (working ??= work());
}

function cacheFor(
  request: PushRequest,
  level: number,
  targets: readonly Target[],
  report: Report,
  signal: AbortSignal,
): OnDemand<LayerCache> {
  return new OnDemand(async () => {
    const { LayerCache } = await late();
    return new LayerCache({
      dir: request.workDir,
      compression: request.compression,
      level,
      repositories: targets.flatMap(({ destinations }) => destinations.map(({ name }) => name)),
      remote: request.remoteCache,
      maxSize: request.cacheMaxSize,
      concurrency: request.concurrency,
      log: { info: (text) => report({ type: 'info', text }), debug: (text) => report({ type: 'debug', text }) },
      signal,
    });
  });
}

/** Ends upload sessions, connections and threads, and removes the spool and what the cache does not keep. */
export async function closeJob({ targets, pool, spool, cache }: Job): Promise<void> {
  await Promise.allSettled([closeTargets(targets), pool.close()]);
  await Promise.allSettled([spool.close(), cache?.close()]);
}
