/** What is on its way of one transfer: each blob to all registries at once, and what became of it. */
import type { Descriptor, Digest } from '../image/oci.ts';
import { layerMediaType } from '../layer/compress/compression.ts';
import type { MadeBlob } from '../layer/make.ts';
import type { BlobBody } from '../registry/body.ts';
import type { Force } from './force.ts';
import { type Job, livingTargets } from './job.ts';
import { type Piece, shortDigest } from './pieces.ts';
import type { Target } from './target.ts';

/** A compressed layer whose file the cache may keep. */
export interface KeptLayer {
  readonly diffId: Digest;
  readonly descriptor: Descriptor;
  readonly path?: string;
  readonly secondsToMake?: number;
}

/** A blob that is to be delivered. */
export interface Shipment {
  readonly piece: Piece;
  readonly body: BlobBody;
  readonly mediaType: string;
  readonly fromCache: boolean;
  /** The blob in the making, whose file is let go when every registry has it. */
  readonly made?: MadeBlob;
}

/** Stands for the digest of a legacy `layer.tar` until it was hashed. */
export const UNNAMED: Digest = `sha256:${'0'.repeat(64)}`;

export class Deliveries {
  readonly #job: Job;
  readonly #force: Force;
  /** Pieces that are in the registry, on their way, or given up: nobody needs to look at them again. */
  readonly #taken = new Set<Digest>();
  readonly #spoiled = new Map<Digest, unknown>();
  readonly #running: Promise<void>[] = [];
  readonly #compressed = new Map<Digest, Descriptor>();
  readonly #kept = new Map<Digest, KeptLayer>();
  readonly #abandoned = Promise.withResolvers<void>();

  constructor(job: Job, force: Force) {
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
  ship(shipment: Shipment): Promise<void> {
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
    livingTargets(this.#job);
  }

  async #deliver(shipment: Shipment): Promise<void> {
    const { piece, body, made } = shipment;
    const targets = this.#job.targets.filter((target) => target.alive);
    const confirmed = new Map(targets.map((target) => [target, 0]));
    const onConfirmed = (target: Target, bytes: number) => {
      confirmed.set(target, bytes);
      const living = [...confirmed].filter(([{ alive }]) => alive).map(([, count]) => count);
      made?.confirmed(Math.min(...living));
    };
    await Promise.all(targets.map((target) => target.deliver(this.#parcel(shipment, target, onConfirmed))));
    // Nobody wants it any more; waiting for its end could take for ever, since nobody reads it.
    if (!targets.some(({ alive }) => alive)) {
      this.#abandoned.resolve();
      return made?.release();
    }
    if (made) await this.#settleMade(piece, made);
    else await body.whole();
  }

  #parcel(shipment: Shipment, target: Target, onConfirmed: (target: Target, bytes: number) => void) {
    const { piece, body, mediaType, fromCache } = shipment;
    const { known } = this.#job;
    return {
      body,
      label: piece.label ?? shortDigest(piece.key),
      mediaType,
      diffId: piece.diffId,
      fromCache,
      isForced: (destination: Target['destinations'][number]) =>
        this.#force.pieces.has(piece.key) && this.#force.destinations.has(destination),
      mountFrom: piece.plain ? undefined : known.repositories(target.host, piece.key)[0],
      onConfirmed: (bytes: number) => onConfirmed(target, bytes),
    };
  }

  async #settleMade(piece: Piece, made: MadeBlob): Promise<void> {
    const { ledger, cache, request } = this.#job;
    try {
      const { digest, size } = await made.whole();
      ledger.addMaking(made.times);
      const fits = piece.plain && cache !== undefined && piece.key !== UNNAMED && size <= request.cacheMaxSize;
      if (piece.plain) {
        const diffId = (await made.diffId) ?? piece.key;
        const descriptor = { mediaType: layerMediaType(request.compression), digest, size };
        const secondsToMake = made.times.compressingMs / 1000;
        this.note({ diffId, descriptor, secondsToMake, ...(fits ? { path: made.file } : {}) });
      }
      await made.release(fits);
    } catch (error) {
      await made.release().catch(() => {});
      throw error;
    }
  }
}
