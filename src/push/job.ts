/** What the steps of one push share. */
import type { LayerCache } from '../cache/layer-cache.ts';
import type { CompressorPool } from '../layer/compress/pool.ts';
import type { Spool } from '../layer/spool.ts';
import type { Report } from './events.ts';
import type { KnownLayers } from './known.ts';
import type { Ledger } from './ledger.ts';
import type { OnDemand } from './on-demand.ts';
import type { PushRequest } from './request.ts';
import type { Target } from './target.ts';

export interface Job {
  readonly request: PushRequest;
  readonly report: Report;
  readonly signal: AbortSignal;
  readonly targets: readonly Target[];
  readonly known: KnownLayers;
  /** Adds to the known layers what images pushed earlier tell of them: asked for once, and for plain layers alone. Never rejects. */
  lessons(): Promise<void>;
  readonly ledger: Ledger;
  readonly cache: OnDemand<LayerCache> | undefined;
  readonly spool: OnDemand<Spool>;
  readonly pool: OnDemand<CompressorPool>;
}

/** The targets that have not failed. Throws the first failure when none is left: there is nobody to push for. */
export function livingTargets(job: Pick<Job, 'targets' | 'signal'>): readonly Target[] {
  job.signal.throwIfAborted();
  const living = job.targets.filter((target) => target.alive);
  if (living.length === 0) throw job.targets[0]?.failure;
  return living;
}
