/** What the steps of one push share. */

import { join } from 'node:path';
import { COMPRESSIONS } from '../blob/compress/compression.ts';
import { CompressorPool } from '../blob/compress/pool.ts';
import { ownName } from '../blob/private-folder.ts';
import { SPOOL_PREFIX, Spool } from '../blob/spool.ts';
import { LayerCache } from '../cache/layer-cache.ts';
import type { Report } from './events.ts';
import { KnownLayers, readKnownLayers } from './known-layers.ts';
import type { PushRequest, RequestOptions } from './options.ts';
import { closeRegistries, openRegistries, type TargetRegistry } from './registries.ts';
import { PushStats } from './stats.ts';

export interface PushContext {
  readonly request: PushRequest;
  readonly report: Report;
  readonly signal: AbortSignal;
  readonly registries: readonly TargetRegistry[];
  readonly known: KnownLayers;
  /** Adds to the known layers what images pushed earlier tell of them: asked for once, and for plain layers alone. Never rejects. */
  readKnownLayers(): Promise<void>;
  readonly stats: PushStats;
  readonly cache: OnDemand<LayerCache> | undefined;
  readonly spool: OnDemand<Spool>;
  readonly pool: OnDemand<CompressorPool>;
}

/** The targets that have not failed. Throws the first failure when none is left: there is nobody to push for. */
export function activeRegistries(job: Pick<PushContext, 'registries' | 'signal'>): readonly TargetRegistry[] {
  job.signal.throwIfAborted();
  const living = job.registries.filter((target) => target.isActive);
  if (living.length === 0) throw job.registries[0]?.failure;
  return living;
}

/** What only some pushes need: made by the first who asks for it, and closed only if somebody did. */
export class OnDemand<T extends { close(): Promise<void> }> {
  readonly #make: () => Promise<T>;
  #making: Promise<T> | undefined;
  #made: T | undefined;
  #closed = false;

  constructor(make: () => Promise<T>) {
    this.#make = make;
  }

  /** The same for all. Rejects as its making does, and after `close`: nobody would close it any more. */
  async get(): Promise<T> {
    if (this.#closed) throw new Error('the push is over');
    this.#making ??= this.#make();
    this.#made = await this.#making;
    return this.#made;
  }

  /** What was made, if anybody has asked for it. */
  get made(): T | undefined {
    return this.#made;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await (await this.#making)?.close();
  }
}

/** Opens and closes what one push needs: registries, compressor, spool, cache. */

/** Opens everything that each push needs, and lays out what some do; no byte of an image is sent yet. The caller closes it. Throws for unusable credentials. */
export async function openContext(request: PushRequest, report: Report, signal: AbortSignal): Promise<PushContext> {
  const { compression, workDir } = request;
  const level = request.compressionLevel ?? COMPRESSIONS[compression].defaultLevel;
  const ledger = new PushStats();
  const targets = await openRegistries(request, { report, signal, ledger });
  for (const { registry } of targets) registry.connect();
  const spool = new OnDemand(async () => {
    return Spool.open(join(workDir, ownName(SPOOL_PREFIX)), { uploads: request.concurrency });
  });
  const pool = new OnDemand(async () => {
    return new CompressorPool({ compression, level });
  });
  const cache = request.cache ? cacheFor(request, level, targets, report, signal) : undefined;
  const known = new KnownLayers(compression);
  const lessons = once(async () => {
    await readKnownLayers(known, targets, request.cacheFrom, { report, signal });
  });
  return {
    request,
    report,
    signal,
    registries: targets,
    stats: ledger,
    known,
    readKnownLayers: lessons,
    cache,
    spool,
    pool,
  };
}

function once(work: () => Promise<void>): () => Promise<void> {
  let working: Promise<void> | undefined;
  return () => (working ??= work());
}

function cacheFor(
  request: RequestOptions,
  level: number,
  targets: readonly TargetRegistry[],
  report: Report,
  signal: AbortSignal,
): OnDemand<LayerCache> {
  return new OnDemand(async () => {
    return new LayerCache({
      dir: request.workDir,
      compression: request.compression,
      level,
      repositories: targets.flatMap(({ repositories: destinations }) => destinations.map(({ name }) => name)),
      remote: request.remoteCache,
      maxSize: request.cacheMaxSize,
      concurrency: request.concurrency,
      log: { info: (text) => report({ type: 'info', text }), debug: (text) => report({ type: 'debug', text }) },
      signal,
    });
  });
}

/** Ends upload sessions, connections and threads, and removes the spool and what the cache does not keep. */
export async function closeContext({ registries: targets, pool, spool, cache }: PushContext): Promise<void> {
  await Promise.allSettled([closeRegistries(targets), pool.close()]);
  await Promise.allSettled([spool.close(), cache?.close()]);
}
