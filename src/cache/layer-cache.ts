/**
 * The compressed-layer cache of one push: this machine's folder first, then the Actions cache. Nothing of it has to be
 * believed: a layer is returned only after its bytes were hashed (and, from the Actions cache, decompressed to its
 * diffID), and what `known` says is for the registry to confirm. Trouble is a line in the log, never an error.
 */

import { lstat, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import pLimit, { type LimitFunction } from 'p-limit';
import { layerMediaType } from '../blob/compress/compression.ts';
import type { Descriptor, Digest } from '../oci/types.ts';
import {
  type EntryName,
  formatKnownLayers,
  inspectBlob,
  inspectLayer,
  type KnownLayer,
  type LayerFormat,
  layerEntry,
  MAX_POINTER_BYTES,
  mergeKnownLayers,
  parseKnownLayers,
  pointerEntry,
  pointerPrefix,
  registryPrefix,
} from './known-layers.ts';
import { LocalStore } from './local-store.ts';
import { choose, type PlannedEntry, type SavePlan } from './save.ts';
import { CacheService, type Deadlines, isServiceOffered, type Log } from './service.ts';

export interface LayerCacheOptions extends LayerFormat {
  /** A folder that lasts from step to step (from run to run for the CLI). */
  readonly dir: string;
  /** The image repositories (`host/name`) that this push goes to: each has pointers of its own. */
  readonly repositories: readonly string[];
  /** Whether the Actions cache may be used, if there is one. */
  readonly remote: boolean;
  /** Bytes that this push may add to the Actions cache; without one, bytes that the folder may keep. */
  readonly maxSize: number;
  /** Layers restored at once. */
  readonly concurrency: number;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly deadlines?: Partial<Deadlines>;
}

/** A compressed layer in a file that lasts until `close`. */
interface RestoredLayer {
  readonly path: string;
  readonly descriptor: Descriptor;
}

/** What a push found out about a layer. With `path`, the cache takes the file over. */
export interface RecordedLayer extends KnownLayer {
  readonly path?: string;
  /** What compressing it took. */
  readonly secondsToMake?: number;
}

/** What an entry of the Actions cache says; its key when there is one. */
interface FoundPointer {
  readonly key?: string;
  readonly layers: readonly KnownLayer[];
}

export type KnownBlob = Descriptor & {
  readonly source: 'spool' | 'cache';
  /** `host/name`: where the blob is likely to be, to be mounted from there. */
  readonly repositories?: readonly string[];
};

const knownBlob = ({ descriptor, repositories }: KnownLayer, source: KnownBlob['source']): KnownBlob => ({
  ...descriptor,
  source,
  ...(repositories ? { repositories } : {}),
});

export class LayerCache {
  readonly #options: LayerCacheOptions;
  readonly #store: LocalStore;
  readonly #service: CacheService | undefined;
  readonly #limit: LimitFunction;
  readonly #restores = new Map<Digest, Promise<RestoredLayer | undefined>>();
  #local: Promise<KnownLayer[]> | undefined;
  #remote: Promise<ReadonlyMap<string, readonly KnownLayer[]>> | undefined;

  /** Makes no request and no file before it is asked for something. */
  constructor(options: LayerCacheOptions) {
    this.#options = options;
    this.#store = new LocalStore(options.dir, options);
    this.#limit = pLimit(options.concurrency);
    if (options.remote && isServiceOffered()) {
      const { log, signal, deadlines } = options;
      this.#service = new CacheService({ dir: join(this.#store.session, 'service'), log, signal, deadlines });
    }
  }

  /** The blobs that are likely to stand for layers, by diffID. Hints: see the head of this file. */
  async known(): Promise<ReadonlyMap<Digest, KnownBlob>> {
    const [local, remote] = await Promise.all([this.#knownHere(), this.#pointers()]);
    const known = new Map<Digest, KnownBlob>();
    const pointed = [...remote.values()].reduce((all, layers) => mergeKnownLayers(all, layers), []);
    for (const layer of pointed) known.set(layer.diffId, knownBlob(layer, 'cache'));
    for (const layer of mergeKnownLayers(local, pointed).slice(0, local.length))
      known.set(layer.diffId, knownBlob(layer, 'spool'));
    return known;
  }

  /**
   * The compressed layer with this diffID, checked; undefined when there is none, or what there is, is not that layer.
   */
  restore(diffId: Digest): Promise<RestoredLayer | undefined> {
    const restoring = this.#restores.get(diffId) ?? this.#limit(() => this.#restore(diffId));
    this.#restores.set(diffId, restoring);
    return restoring;
  }

  /**
   * A good place for a compressed layer that is to be recorded: on the cache's file system, and of this process alone.
   */
  layerPath(diffId: Digest): string {
    return join(this.#store.session, layerEntry(this.#options, diffId).file);
  }

  /**
   * Notes the layers of a push that succeeded, takes over their files, and decides what is worth saving. Call it once,
   * after everything that reads those files. Never rejects.
   */
  async record(layers: readonly RecordedLayer[]): Promise<SavePlan> {
    const workspace = join(this.#options.dir, 'tmp', `save-${this.#store.session.slice(-12)}`);
    const nothing: SavePlan = { version: 1, workspace, pointers: [], layers: [], dropped: [] };
    if (layers.length === 0) return nothing;
    try {
      const files = await this.#takeOver(layers);
      if (!this.#service) {
        const removed = await this.#store.prune(this.#options.maxSize);
        if (removed) this.#options.log.debug(`layer cache: removed ${removed} layers that were not used for longest`);
        return nothing;
      }
      // The service was not asked so far: there is nothing that it does not know, and asking takes half a second.
      if (this.#remote === undefined && files.length === 0) return nothing;
      const pointers = await this.#planPointers(layers);
      return { ...nothing, pointers, ...(await this.#planLayers(files)) };
    } catch (error) {
      this.#options.log.info(`layer cache: this push is not noted: ${(error as Error).message}`);
      return nothing;
    }
  }

  /**
   * Notes the layers, and takes over the files of those that come from no cache: saving another one again would be
   * refused.
   */
  async #takeOver(layers: readonly RecordedLayer[]): Promise<Required<RecordedLayer>[]> {
    const files: Required<RecordedLayer>[] = [];
    const before = layers.some(({ repositories }) => repositories) ? await this.#knownHere() : [];
    const here = new Map(before.map((layer) => [layer.diffId, layer]));
    for (const layer of layers) {
      const known = here.get(layer.diffId);
      const { diffId, descriptor, repositories } = mergeKnownLayers([layer], known ? [known] : [])[0]!;
      await this.#store.note({ diffId, descriptor, ...(repositories ? { repositories } : {}) });
      if (!layer.path || (await this.#restores.get(layer.diffId))) continue;
      const path = await this.#store.adopt(layer.path, layer);
      files.push({ ...layer, path, secondsToMake: layer.secondsToMake ?? 0, repositories: layer.repositories ?? [] });
    }
    return files;
  }

  /** Ends what is under way and removes the files of this process, those that `restore` gave too. */
  async close(): Promise<void> {
    this.#service?.close();
    await this.#store.close();
  }

  async #restore(diffId: Digest): Promise<RestoredLayer | undefined> {
    try {
      return (await this.#restoreLocal(diffId)) ?? (await this.#restoreRemote(diffId));
    } catch (error) {
      if (!this.#options.signal.aborted) this.#reject(diffId, (error as Error).message);
      return undefined;
    }
  }

  /** A file of this machine was made or checked by a push of this machine: its digest is enough. */
  async #restoreLocal(diffId: Digest): Promise<RestoredLayer | undefined> {
    const layer = (await this.#knownHere()).find((known) => known.diffId === diffId);
    const path = layer && (await this.#store.hold(layer));
    if (!layer || !path) return undefined;
    const { digest } = await inspectBlob(path, this.#options.signal);
    if (digest === layer.descriptor.digest) return { path, descriptor: layer.descriptor };
    await this.#store.discard(layer);
    await rm(path, { force: true });
    this.#reject(diffId, `its file on this machine has the digest ${digest}`);
    return undefined;
  }

  /** An entry may have been made by anyone: its bytes must decompress to the diffID. */
  async #restoreRemote(diffId: Digest): Promise<RestoredLayer | undefined> {
    const service = this.#service;
    if (!service) return undefined;
    const { key, file } = layerEntry(this.#options, diffId);
    const outcome = await service.restore(key, file);
    if (outcome.kind === 'trouble' && service.down === undefined) this.#reject(diffId, outcome.why);
    if (outcome.kind !== 'hit' || outcome.key !== key) return undefined;
    const path = service.path(file);
    try {
      if (!(await lstat(path)).isFile()) throw new Error('the entry is not a file');
      const found = await inspectLayer(path, this.#options.compression, this.#options.signal);
      if (found.diffId !== diffId) throw new Error(`the entry has another layer, ${found.diffId}`);
      const descriptor = {
        mediaType: layerMediaType(this.#options.compression),
        digest: found.digest,
        size: found.size,
      };
      return { path, descriptor };
    } catch (error) {
      await rm(path, { recursive: true, force: true });
      throw error;
    }
  }

  #reject(diffId: Digest, why: string): void {
    this.#options.log.info(`layer cache: the cached layer ${diffId.slice(0, 19)} can't be used: ${why}`);
  }

  /** What this machine knows, read once. */
  #knownHere(): Promise<KnownLayer[]> {
    this.#local ??= this.#store.known().catch(() => []);
    return this.#local;
  }

  /** The pointers of each repository in the Actions cache, asked for once. */
  #pointers(): Promise<ReadonlyMap<string, readonly KnownLayer[]>> {
    this.#remote ??= this.#fetchPointers();
    return this.#remote;
  }

  /**
   * For each repository the newest entry of its registry, which another repository's push may have left, and its own.
   * One after the other: entries of a registry have one file name, because a name is part of what the cache looks up.
   */
  async #fetchPointers(): Promise<ReadonlyMap<string, readonly KnownLayer[]>> {
    const pointers = new Map<string, readonly KnownLayer[]>();
    const ofRegistry = new Map<string, FoundPointer>();
    for (const repository of this.#options.repositories) {
      const registry = registryPrefix(this.#options, repository);
      const own = pointerPrefix(this.#options, repository);
      const newest = ofRegistry.get(registry.key) ?? (await this.#fetchPointer(registry));
      ofRegistry.set(registry.key, newest);
      // No entry of the registry: none of the repository either.
      const isOwn = newest.key === undefined || newest.key.startsWith(own.key);
      const layers = isOwn ? [] : (await this.#fetchPointer(own)).layers;
      pointers.set(repository, mergeKnownLayers(layers, newest.layers));
    }
    return pointers;
  }

  async #fetchPointer({ key, file }: EntryName): Promise<FoundPointer> {
    const service = this.#service;
    if (!service) return { layers: [] };
    const outcome = await service.restoreSmall(key, file);
    if (outcome.kind === 'trouble' && service.down === undefined)
      this.#options.log.info(`layer cache: the list of known layers can't be used: ${outcome.why}`);
    if (outcome.kind !== 'hit' || !outcome.key.startsWith(key)) return { layers: [] };
    const found = await lstat(service.path(file)).catch(() => undefined);
    if (!found?.isFile() || found.size > MAX_POINTER_BYTES) return { layers: [] };
    return { key: outcome.key, layers: parseKnownLayers(await readFile(service.path(file), 'utf8')) };
  }

  /** A new pointer entry for each repository whose newest one does not say all this yet. */
  async #planPointers(layers: readonly KnownLayer[]): Promise<PlannedEntry[]> {
    const planned: PlannedEntry[] = [];
    const known = await this.#pointers();
    // An entry without what the earlier ones say would hide them.
    if (this.#service?.down !== undefined) return [];
    for (const [repository, before] of known) {
      const said = new Map(before.map((layer) => [layer.diffId, layer]));
      const isSaid = ({ diffId, descriptor, repositories = [] }: KnownLayer) => {
        const known = said.get(diffId);
        const isNamed = repositories.some((name) => known?.repositories?.includes(name));
        return known?.descriptor.digest === descriptor.digest && (repositories.length === 0 || isNamed);
      };
      if (layers.every(isSaid)) continue;
      const text = formatKnownLayers(mergeKnownLayers(layers, before));
      const { key, file } = pointerEntry(this.#options, repository, text);
      const path = join(this.#options.dir, 'v1', key);
      await this.#store.write(path, text);
      planned.push({ key, file, path, size: Buffer.byteLength(text) });
    }
    return planned;
  }

  async #planLayers(files: readonly Required<RecordedLayer>[]): Promise<Pick<SavePlan, 'layers' | 'dropped'>> {
    const candidates = files.map((file) => ({ ...file, size: file.descriptor.size }));
    const { kept, dropped } = choose(candidates, this.#options.maxSize);
    for (const { layer } of dropped) await rm(layer.path, { force: true });
    return {
      layers: kept.map(({ diffId, path, size }) => ({ ...layerEntry(this.#options, diffId), path, size })),
      dropped: dropped.map(({ layer: { diffId, size }, why }) => ({ diffId, size, why })),
    };
  }
}
