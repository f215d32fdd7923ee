/**
 * Moves the pieces of an image into every target: what is there stays, what the cache has is sent from it, the rest is
 * made from the source while it is read, and sent while it is made.
 */
import pLimit, { type LimitFunction } from 'p-limit';
import type { Digest } from '../image/oci.ts';
import type { StoreSource, StreamedBlob, StreamSource } from '../image/source.ts';
import { memoryBody, storedBody } from '../layer/bodies.ts';
import { layerMediaType } from '../layer/compress/compression.ts';
import { fileBody } from '../layer/file-body.ts';
import type { MadeBlob } from '../layer/make.ts';
import { Deliveries, type Shipment } from './deliveries.ts';
import { entriesUntil, pieceOfEntry, unnamedPiece } from './entries.ts';
import type { Force } from './force.ts';
import { type Job, livingTargets } from './job.ts';
import type { Piece } from './pieces.ts';
import { settlePiece } from './settle.ts';
import type { Workshop } from './workshop.ts';

export class Transfer {
  readonly #job: Job;
  readonly #force: Force;
  readonly #deliveries: Deliveries;
  readonly #held: Shipment[] = [];
  readonly #making = pLimit(MAKERS);
  /** For pieces of stores. A slot is held until its piece is delivered, so that a slow registry holds back reading and compressing too. */
  readonly #slots: LimitFunction;
  #workshop: Promise<Workshop> | undefined;

  constructor(job: Job, force: Force) {
    this.#job = job;
    this.#force = force;
    this.#deliveries = new Deliveries(job, force);
    this.#slots = pLimit(job.request.concurrency);
  }

  /** For each plain layer (by diffID) the compressed blob that stands for it. */
  get compressed(): Deliveries['compressed'] {
    return this.#deliveries.compressed;
  }

  /** What the cache may keep of this transfer. */
  get kept(): Deliveries['kept'] {
    return this.#deliveries.kept;
  }

  /** Pieces whose source gave wrong bytes or none, with the reason; another source may do better. */
  get spoiled(): Deliveries['spoiled'] {
    return this.#deliveries.spoiled;
  }

  isTaken(key: Digest): boolean {
    return this.#deliveries.isTaken(key);
  }

  /** Takes the pieces that every target has already (by HEAD or mount), all at once; `missing` hears of each of the others. */
  async settle(pieces: readonly Piece[], missing: (piece: Piece) => void = () => {}): Promise<void> {
    await Promise.all(
      pieces.map(async (piece) => {
        if (!(await this.#settle(piece))) missing(piece);
      }),
    );
  }

  /**
   * Asks again whenever a piece's turn comes, for somebody else may have pushed it meanwhile; but not what every registry has
   * just denied.
   */
  async #settle(piece: Piece): Promise<boolean> {
    if (this.isTaken(piece.key)) return true;
    if (this.#force.pieces.has(piece.key) || this.#isLacking(piece)) return false;
    const descriptor = await settlePiece(this.#job, piece);
    if (!descriptor) return false;
    if (piece.plain) this.#deliveries.note({ diffId: piece.key, descriptor });
    else this.#deliveries.take(piece.key);
    return true;
  }

  /** Whether every registry has just said that it lacks all that may stand for a piece. */
  #isLacking(piece: Piece): boolean {
    const { targets, known } = this.#job;
    const candidates = piece.plain ? known.candidates(piece.key).map(({ digest }) => digest) : [piece.key];
    const living = targets.flatMap((target) => target.living);
    if (candidates.length === 0 || living.length === 0) return false;
    return candidates.every((digest) => living.every((one) => one.lacks(digest)));
  }

  /** Sends the plain layers that the cache has in compressed form; the others stay for the source. */
  async fromCache(pieces: readonly Piece[]): Promise<void> {
    const { signal } = this.#job;
    const missing = pieces.filter(({ key, plain }) => plain && !this.isTaken(key));
    const cache = missing.length > 0 ? await this.#job.cache?.get() : undefined;
    if (!cache) return;
    await Promise.all(
      missing.map(async (piece) => {
        const found = await cache.restore(piece.key);
        signal.throwIfAborted();
        if (!found || this.isTaken(piece.key)) return;
        const { descriptor, path } = found;
        this.#deliveries.note({ diffId: piece.key, descriptor, path });
        const body = await fileBody(path, descriptor.digest);
        void this.#deliveries.ship({ piece, body, mediaType: descriptor.mediaType, fromCache: true });
      }),
    );
  }

  /** Sends documents and small blobs that are in memory. */
  fromMemory(pieces: readonly Piece[], documents: ReadonlyMap<Digest, Buffer>): void {
    for (const piece of pieces) {
      const bytes = documents.get(piece.key);
      if (!bytes || this.isTaken(piece.key) || piece.plain) continue;
      this.#deliveries.take(piece.key);
      void this.#deliveries.ship({
        piece,
        body: memoryBody(bytes, piece.key),
        mediaType: piece.mediaType,
        fromCache: false,
      });
    }
  }

  /** Moves what is missing out of a store: several pieces at once, the largest first. Never reads what is there. */
  async fromStore(source: StoreSource, pieces: readonly Piece[]): Promise<void> {
    const bySize = [...pieces].sort((a, b) => (b.size ?? 0) - (a.size ?? 0));
    await Promise.all(
      bySize.map((piece) =>
        this.#slots(async () => {
          livingTargets(this.#job);
          if (await this.#settle(piece)) return;
          this.#deliveries.take(piece.key);
          await this.#fromStored(source, piece);
        }),
      ),
    );
  }

  async #fromStored(source: StoreSource, piece: Piece): Promise<void> {
    try {
      const stored = await source.open(piece.key);
      if (!stored) {
        this.#deliveries.leave(piece.key);
        return;
      }
      const { size, bytes } = stored;
      if (piece.plain) {
        await this.#shipWhileMade(piece, (workshop) => workshop.compress(stored.read(), piece.key));
      } else if (bytes) {
        const body = memoryBody(bytes, piece.key);
        await this.#deliveries.ship({ piece, body, mediaType: piece.mediaType, fromCache: false });
      } else if (stored.seekable && size !== undefined) {
        const body = storedBody({ ...stored, size, read: stored.read.bind(stored) }, piece.key, this.#job);
        await this.#deliveries.ship({ piece, body, mediaType: piece.mediaType, fromCache: false });
      } else {
        await this.#shipWhileMade(piece, (workshop) => workshop.passThrough(stored.read(), piece.key));
      }
    } catch (error) {
      this.#deliveries.spoil(piece.key, error);
    }
  }

  /** Sends a blob while it is made; the next one is begun when this one is made, sent or not. */
  async #shipWhileMade(piece: Piece, make: (workshop: Workshop) => MadeBlob): Promise<void> {
    const workshop = await this.#openWorkshop();
    const { shipped } = await this.#making(async () => {
      const made = make(workshop);
      const shipped = this.#deliveries.ship(this.#madeShipment(piece, made));
      // A failure is the shipment's to tell; here it only frees the place.
      await Promise.race([made.whole().catch(() => {}), shipped]);
      return { shipped };
    });
    await shipped;
  }

  /**
   * Moves what is missing out of a stream, deciding each entry as it arrives, and stops reading as soon as `isComplete`
   * says that nothing more is needed. `isWanted` refuses entries that are known not to belong to the image; with
   * `hold` nothing is sent before `releaseHeld`, because only the tree will tell what belongs.
   */
  async fromStream(
    source: StreamSource,
    options: { isWanted(key: Digest): boolean; isComplete(): boolean; hold: boolean },
  ): Promise<void> {
    // Before there is an entry: one that breaks must find somebody who listens.
    const workshop = await this.#openWorkshop();
    for await (const entry of entriesUntil(source.blobs(), this.#deliveries.abandoned)) {
      livingTargets(this.#job);
      if (options.isComplete()) break;
      const piece = pieceOfEntry(entry);
      if (piece && !(options.isWanted(piece.key) && !(await this.#settle(piece)))) {
        entry.body.destroy();
        continue;
      }
      const shipment = this.#shipmentOf(entry, piece, workshop);
      if (options.hold) this.#hold(shipment);
      else void this.#deliveries.ship(shipment);
    }
    livingTargets(this.#job);
  }

  #shipmentOf(entry: StreamedBlob, piece: Piece | undefined, workshop: Workshop): Shipment {
    if (piece) this.#deliveries.take(piece.key);
    const plain = piece ? piece.plain : entry.form === 'tar';
    const made = plain ? workshop.compress(entry.body, piece?.key) : workshop.passThrough(entry.body, piece?.key);
    return this.#madeShipment(piece ?? unnamedPiece(entry), made);
  }

  /** Keeps a blob back until the tree is known. It is made to its end: nothing could be let go to make room for it. */
  #hold(shipment: Shipment): void {
    shipment.body.reach(Number.POSITIVE_INFINITY).catch(() => {});
    this.#held.push(shipment);
  }

  /** Sends what was held until the tree was known, and drops what it does not name. */
  async releaseHeld(isWanted: (key: Digest) => boolean): Promise<void> {
    for (const shipment of this.#held.splice(0)) {
      if (isWanted(shipment.piece.key)) void this.#deliveries.ship(shipment);
      else await shipment.made?.release();
    }
  }

  /** Loaded and opened for the first blob that is made. */
  #openWorkshop(): Promise<Workshop> {
    this.#workshop ??= import('./late.ts').then(({ Workshop }) => Workshop.open(this.#job));
    return this.#workshop;
  }

  #madeShipment(piece: Piece, made: MadeBlob): Shipment {
    const mediaType = piece.plain ? layerMediaType(this.#job.request.compression) : piece.mediaType;
    return { piece, body: made, made, mediaType, fromCache: false };
  }

  /** Waits until every delivery has ended, well or not. Throws when no target is left. */
  delivered(): Promise<void> {
    return this.#deliveries.ended();
  }
}

/**
 * Layers of a store that are compressed at once. One would leave the cores idle at each layer's end; more only take
 * memory, since all of them share the same threads.
 */
const MAKERS = 2;
