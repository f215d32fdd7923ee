/**
 * The post step of the layer cache: saves what the push left, and reports what became of it. Trouble is never an error.
 */

import { rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import pLimit from 'p-limit';
import { makePrivateFolder } from '../blob/private-folder.ts';
import type { Digest } from '../oci/types.ts';
import { linkOrCopy } from './local-store.ts';
import { CacheService, type Deadlines, isServiceOffered, type Log } from './service.ts';

/** Each save has tar and zstd run on all cores already; a second one fills the time on the wire. */
const SAVES_AT_ONCE = 2;

/** After as many failures (@actions/cache has retried each for half a minute) the rest would fail alike. */
const MAX_FAILURES = 2;

interface SavedEntry {
  readonly key: string;
  /** Bytes. */
  readonly size: number;
}

interface SaveReport {
  readonly saved: readonly SavedEntry[];
  /** The cache had them before, or another job saved them at the same time. */
  readonly existing: readonly SavedEntry[];
  readonly failed: readonly (SavedEntry & { readonly why: string })[];
}

/**
 * Saves the planned entries that the Actions cache does not have, and removes their files. Never rejects: what could
 * not be saved, and why, is in the report and in one line of the log.
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
    // When the service is down, its line has been written.
    if (saving.service.down === undefined) report(saving, log);
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
    await makePrivateFolder(dirname(this.service.path(file)));
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

function report({ saved, existing, failed }: SaveReport, log: Log): void {
  const bytes = saved.reduce((sum, { size }) => sum + size, 0);
  if (saved.length + existing.length > 0)
    log.info(`layer cache: saved ${saved.length} entries (${bytes} bytes), ${existing.length} were there already`);
  const [first] = failed;
  if (first) log.info(`layer cache: ${failed.length} entries were not saved: ${first.why}`);
  for (const { key, why } of failed) log.debug(`layer cache: not saved: ${key}: ${why}`);
}

// What the post step is to save, decided while the push still knows what each layer cost.

/** A file that is to become an entry of the Actions cache. */
export interface PlannedEntry {
  readonly key: string;
  /** The name of the file in the entry. */
  readonly file: string;
  /** Where the file lies until it is saved. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
}

/** JSON that the main step leaves for the post step. */
export interface SavePlan {
  readonly version: 1;
  /** A folder of the post step alone, made and removed by it. */
  readonly workspace: string;
  readonly pointers: readonly PlannedEntry[];
  readonly layers: readonly PlannedEntry[];
  /** Layers that are not saved, each with the reason. */
  readonly dropped: readonly { readonly diffId: Digest; readonly size: number; readonly why: string }[];
}

/** A layer that could be saved: its bytes, and the seconds that having them saves. */
interface Candidate {
  readonly diffId: Digest;
  readonly size: number;
  readonly secondsToMake: number;
}

/**
 * Restoring an entry costs a call, a download, tar and a process each: measured at 50 ms with a service on the same
 * machine.
 */
const MIN_LAYER_BYTES = 32 * 1024;

/** A repository may make 200 new entries a minute, for all of its jobs. */
const MAX_LAYERS = 50;

/**
 * Chooses what to save: at most `maxSize` bytes, and if that is less than there is, what saves the fewest seconds a
 * byte is dropped first. Small layers are not worth an entry.
 */
export function choose<T extends Candidate>(layers: readonly T[], maxSize: number) {
  const dropped: { layer: T; why: string }[] = [];
  const kept: T[] = [];
  let bytes = 0;
  for (const layer of [...layers].sort((a, b) => b.secondsToMake / b.size - a.secondsToMake / a.size)) {
    const why = reasonAgainst(layer, kept.length, bytes, maxSize);
    if (why) dropped.push({ layer, why });
    else {
      kept.push(layer);
      bytes += layer.size;
    }
  }
  return { kept, dropped };
}

function reasonAgainst({ size }: Candidate, count: number, bytes: number, maxSize: number): string | undefined {
  if (size < MIN_LAYER_BYTES) return 'quicker compressed again than restored';
  if (bytes + size > maxSize) return `over cache-max-size (${maxSize} bytes)`;
  return count >= MAX_LAYERS ? `over ${MAX_LAYERS} new entries` : undefined;
}
