/** What is on its way of one transfer: each blob to all registries at once, and what became of it. */
import type { ReadableBlob, StreamingBlob } from '../blob/blob.ts';
import { layerMediaType } from '../blob/compress/compression.ts';
import type { CompressorPool } from '../blob/compress/pool.ts';
import type { Input } from '../blob/input.ts';
import type { Spool } from '../blob/spool.ts';
import { compressLayer, spoolBlob } from '../blob/streaming.ts';
import type { LayerCache } from '../cache/layer-cache.ts';
import type { Descriptor, Digest } from '../oci/types.ts';
import { activeRegistries, type PushContext } from './context.ts';
import { type ForcedBlobs, type ImageBlob, shortDigest } from './image-blobs.ts';
import type { TargetRegistry } from './registries.ts';

/** A compressed layer whose file the cache may keep. */
export interface KeptLayer {
  readonly diffId: Digest;
  readonly descriptor: Descriptor;
  readonly path?: string;
  readonly secondsToMake?: number;
}

/** A blob that is to be delivered. */
export interface QueuedBlob {
  readonly piece: ImageBlob;
  readonly body: ReadableBlob;
  readonly mediaType: string;
  readonly fromCache: boolean;
  /** The blob in the making, whose file is let go when every registry has it. */
  readonly made?: StreamingBlob;
}

/** Stands for the digest of a legacy `layer.tar` until it was hashed. */
export const UNNAMED: Digest = `sha256:${'0'.repeat(64)}`;

export class UploadQueue {
  readonly #job: PushContext;
  readonly #force: ForcedBlobs;
  /** Pieces that are in the registry, on their way, or given up: nobody needs to look at them again. */
  readonly #taken = new Set<Digest>();
  readonly #spoiled = new Map<Digest, unknown>();
  readonly #running: Promise<void>[] = [];
  readonly #compressed = new Map<Digest, Descriptor>();
  readonly #kept = new Map<Digest, KeptLayer>();
  readonly #abandoned = Promise.withResolvers<void>();

  constructor(job: PushContext, force: ForcedBlobs) {
    this.#job = job;
    this.#force = force;
  }

  /** For each plain layer (by diffID) the compressed blob that stands for it. */
  get compressed(): ReadonlyMap<Digest, Descriptor> {
    return this.#compressed;
  }

  /** What the cache may keep. */
  get kept(): readonly KeptLayer[] {
    return [...this.#kept.values()];
  }

  /** Pieces whose source gave wrong bytes or none, with the reason; another source may do better. */
  get spoiled(): ReadonlyMap<Digest, unknown> {
    return this.#spoiled;
  }

  isTaken(key: Digest): boolean {
    return this.#taken.has(key);
  }

  take(key: Digest): void {
    this.#taken.add(key);
  }

  /** A source that turned out not to have a piece leaves it to the next one. */
  leave(key: Digest): void {
    this.#taken.delete(key);
  }

  /** Notes the compressed blob that stands for a plain layer. */
  note(layer: KeptLayer): void {
    this.#taken.add(layer.diffId);
    this.#compressed.set(layer.diffId, layer.descriptor);
    this.#kept.set(layer.diffId, layer);
  }

  spoil(key: Digest, reason: unknown): void {
    if (this.#job.signal.aborted) return;
    this.#taken.delete(key);
    this.#spoiled.set(key, reason);
  }

  /** Delivers a blob to every registry; what was made for it is noted and let go once all of them have it. Never rejects. */
  ship(shipment: QueuedBlob): Promise<void> {
    const delivery = this.#deliver(shipment).catch((error: unknown) => this.spoil(shipment.piece.key, error));
    this.#running.push(delivery);
    return delivery;
  }

  /** Resolves when a delivery found no registry left. */
  get abandoned(): Promise<void> {
    return this.#abandoned.promise;
  }

  /** Waits until every delivery has ended, well or not. Throws when no target is left. */
  async ended(): Promise<void> {
    await Promise.all(this.#running);
    activeRegistries(this.#job);
  }

  async #deliver(shipment: QueuedBlob): Promise<void> {
    const { piece, body, made } = shipment;
    const targets = this.#job.registries.filter((target) => target.isActive);
    const confirmed = new Map(targets.map((target) => [target, 0]));
    const onConfirmed = (target: TargetRegistry, bytes: number) => {
      confirmed.set(target, bytes);
      const living = [...confirmed].filter(([{ isActive: alive }]) => alive).map(([, count]) => count);
      made?.confirmed(Math.min(...living));
    };
    await Promise.all(targets.map((target) => target.deliver(this.#parcel(shipment, target, onConfirmed))));
    // Nobody wants it any more; waiting for its end could take for ever, since nobody reads it.
    if (!targets.some(({ isActive: alive }) => alive)) {
      this.#abandoned.resolve();
      return made?.release();
    }
    if (made) await this.#settleMade(piece, made);
    else await body.completed();
  }

  #parcel(shipment: QueuedBlob, target: TargetRegistry, onConfirmed: (target: TargetRegistry, bytes: number) => void) {
    const { piece, body, mediaType, fromCache } = shipment;
    const { known } = this.#job;
    return {
      body,
      label: piece.label ?? shortDigest(piece.key),
      mediaType,
      diffId: piece.diffId,
      fromCache,
      isForced: (destination: TargetRegistry['repositories'][number]) =>
        this.#force.pieces.has(piece.key) && this.#force.destinations.has(destination),
      mountFrom: piece.plain ? undefined : known.repositories(target.host, piece.key)[0],
      onConfirmed: (bytes: number) => onConfirmed(target, bytes),
    };
  }

  async #settleMade(piece: ImageBlob, made: StreamingBlob): Promise<void> {
    const { stats: ledger, cache, request } = this.#job;
    try {
      const { digest, size } = await made.completed();
      ledger.addMaking(made.times);
      const fits = piece.plain && cache !== undefined && piece.key !== UNNAMED && size <= request.cacheMaxSize;
      if (piece.plain) {
        const diffId = (await made.diffId) ?? piece.key;
        const descriptor = { mediaType: layerMediaType(request.compression), digest, size };
        const secondsToMake = made.times.compressingMs / 1000;
        const path = fits ? made.file : undefined;
        this.note({ diffId, descriptor, secondsToMake, ...(path === undefined ? {} : { path }) });
      }
      await made.release(fits);
    } catch (error) {
      await made.release().catch(() => {});
      throw error;
    }
  }
}

/** Makes the blobs of one transfer: layers that are compressed, and blobs of a stream, which pass through a file. */

export class LayerBuilder {
  readonly #job: PushContext;
  readonly #spool: Spool;
  readonly #pool: CompressorPool;
  readonly #cache: LayerCache | undefined;
  #read = 0;
  #written = 0;

  private constructor(job: PushContext, spool: Spool, pool: CompressorPool, cache: LayerCache | undefined) {
    this.#job = job;
    this.#spool = spool;
    this.#pool = pool;
    this.#cache = cache;
  }

  static async open(job: PushContext): Promise<LayerBuilder> {
    const cache = job.request.dryRun ? undefined : await job.cache?.get();
    return new LayerBuilder(job, await job.spool.get(), await job.pool.get(), cache);
  }

  /** Compresses a plain layer, where the cache may keep it if it has a name. */
  compress(input: Input, diffId: Digest | undefined): StreamingBlob {
    const path = diffId && this.#cache?.layerPath(diffId);
    return compressLayer(input, {
      ...this.#options(),
      pool: this.#pool,
      ...(diffId ? { diffId } : {}),
      ...(path ? { path } : {}),
    });
  }

  passThrough(input: Input, digest: Digest | undefined): StreamingBlob {
    return spoolBlob(input, { ...this.#options(), ...(digest ? { digest } : {}) });
  }

  #options() {
    return { spool: this.#spool, signal: this.#job.signal, onProgress: this.#progress() };
  }

  #progress(): (read: number, written: number) => void {
    let lastRead = 0;
    let lastWritten = 0;
    return (read, written) => {
      this.#read += read - lastRead;
      this.#written += written - lastWritten;
      lastRead = read;
      lastWritten = written;
      this.#job.report({ type: 'made', read: this.#read, written: this.#written });
    };
  }
}
