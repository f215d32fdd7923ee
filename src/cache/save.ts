/** The post step of the layer cache: saves what the push left, and tells what became of it. Trouble is never an error. */
import { mkdir, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import pLimit from 'p-limit';
import { linkOrCopy } from './local-store.ts';
import type { PlannedEntry, SavePlan } from './plan.ts';
import { CacheService, type Deadlines, isServiceOffered, type Log } from './service.ts';

/** Each save has tar and zstd run on all cores already; a second one fills the time on the wire. */
const SAVES_AT_ONCE = 2;

/** After as many failures (@actions/cache has retried each for half a minute) the rest would fail alike. */
const MAX_FAILURES = 2;

export interface SavedEntry {
  readonly key: string;
  /** Bytes. */
  readonly size: number;
}

export interface SaveReport {
  readonly saved: readonly SavedEntry[];
  /** The cache had them before, or another job saved them at the same time. */
  readonly existing: readonly SavedEntry[];
  readonly failed: readonly (SavedEntry & { readonly why: string })[];
}

/**
 * Saves the planned entries that the Actions cache does not have, and removes their files. Never rejects: what could not be
 * saved, and why, is in the report and in one line of the log.
 */
export async function savePlan(
  plan: SavePlan,
  log: Log,
  options: { signal?: AbortSignal; deadlines?: Partial<Deadlines> } = {},
): Promise<SaveReport> {
  const entries = [...plan.pointers, ...plan.layers];
  const saving = new Saving(new CacheService({ dir: plan.workspace, log, ...options }));
  try {
    if (entries.length > 0 && isServiceOffered()) await saving.saveAll(entries);
  } catch (error) {
    log.info(`layer cache: nothing more is saved: ${(error as Error).message}`);
  } finally {
    // When the service was given up, its line has been written.
    if (saving.service.down === undefined) tell(saving, log);
    saving.service.close();
    const paths = [...entries.map(({ path }) => path), plan.workspace];
    await Promise.all(paths.map((path) => rm(path, { recursive: true, force: true }).catch(() => {})));
  }
  const { saved, existing, failed } = saving;
  return { saved, existing, failed };
}

class Saving implements SaveReport {
  readonly service: CacheService;
  readonly saved: SavedEntry[] = [];
  readonly existing: SavedEntry[] = [];
  readonly failed: (SavedEntry & { readonly why: string })[] = [];

  constructor(service: CacheService) {
    this.service = service;
  }

  async saveAll(entries: readonly PlannedEntry[]): Promise<void> {
    const limit = pLimit(SAVES_AT_ONCE);
    await Promise.all(entries.map((entry) => limit(() => this.#save(entry))));
  }

  /** Looks first: @actions/cache packs and compresses before it finds that a key exists. */
  async #save(entry: PlannedEntry): Promise<void> {
    const { key, file, path, size } = entry;
    if (this.failed.length >= MAX_FAILURES) return this.#fail(entry, 'others failed before');
    const before = await this.service.lookup(key, file);
    if (before.kind === 'hit') return void this.existing.push({ key, size });
    if (before.kind === 'trouble') return this.#fail(entry, before.why);
    // Another step of this job, saving the same layer, may have removed its file by now.
    if (!(await stat(path).catch(() => undefined))) return this.#fail(entry, 'its file is gone');
    await mkdir(dirname(this.service.path(file)), { recursive: true });
    await linkOrCopy(path, this.service.path(file));
    const outcome = await this.service.save(key, file);
    await rm(this.service.path(file), { force: true });
    if (outcome.kind === 'hit') this.saved.push({ key, size });
    else if (outcome.kind === 'taken') this.existing.push({ key, size });
    else this.#fail(entry, outcome.kind === 'trouble' ? outcome.why : 'refused');
  }

  #fail({ key, size }: PlannedEntry, why: string): void {
    this.failed.push({ key, size, why });
  }
}

function tell({ saved, existing, failed }: SaveReport, log: Log): void {
  const bytes = saved.reduce((sum, { size }) => sum + size, 0);
  if (saved.length + existing.length > 0)
    log.info(`layer cache: saved ${saved.length} entries (${bytes} bytes), ${existing.length} were there already`);
  const [first] = failed;
  if (first) log.info(`layer cache: ${failed.length} entries were not saved: ${first.why}`);
  for (const { key, why } of failed) log.debug(`layer cache: not saved: ${key}: ${why}`);
}
