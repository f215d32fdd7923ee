/**
 * Moves the pieces of an image into every target: what is there stays, what the cache has is sent from it, the rest is
 * made from the source while it is read, and sent while it is made.
 */

import pLimit, { type LimitFunction } from 'p-limit';
import type { StoredBlob, StreamedBlob, StreamingBlob } from '../blob/blob.ts';
import { layerMediaType } from '../blob/compress/compression.ts';
import { cachedBlob, memoryBlob, readyBlob } from '../blob/ready.ts';
import { type Digest, MediaType } from '../oci/types.ts';
import type { StoreSource, StreamSource } from '../source/source.ts';
import { activeRegistries, type PushContext } from './context.ts';
import { PushError } from './error.ts';
import { findExisting } from './existing.ts';
import type { ForcedBlobs, ImageBlob } from './image-blobs.ts';
import { LayerBuilder, type QueuedBlob, UNNAMED, UploadQueue } from './upload-queue.ts';

export class Transfer {
  readonly #job: PushContext;
  readonly #force: ForcedBlobs;
  readonly #deliveries: UploadQueue;
  readonly #held: QueuedBlob[] = [];
  readonly #making = pLimit(MAKERS);
  /** For pieces of stores. A slot is held until its piece is delivered, so that a slow registry holds back reading and compressing too. */
  readonly #slots: LimitFunction;
  #workshop: Promise<LayerBuilder> | undefined;

  constructor(job: PushContext, force: ForcedBlobs) {
    this.#job = job;
    this.#force = force;
    this.#deliveries = new UploadQueue(job, force);
    this.#slots = pLimit(job.request.concurrency);
  }

  /** For each plain layer (by diffID) the compressed blob that stands for it. */
  get compressed(): UploadQueue['compressed'] {
    return this.#deliveries.compressed;
  }

  /** What the cache may keep of this transfer. */
  get kept(): UploadQueue['kept'] {
    return this.#deliveries.kept;
  }

  /** Pieces whose source gave wrong bytes or none, with the reason; another source may do better. */
  get spoiled(): UploadQueue['spoiled'] {
    return this.#deliveries.spoiled;
  }

  isTaken(key: Digest): boolean {
    return this.#deliveries.isTaken(key);
  }

  /** Takes the pieces that every target has already (by HEAD or mount), all at once; `missing` hears of each of the others. */
  async settle(pieces: readonly ImageBlob[], missing: (piece: ImageBlob) => void = () => {}): Promise<void> {
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
  async #settle(piece: ImageBlob): Promise<boolean> {
    if (this.isTaken(piece.key)) return true;
    if (this.#force.pieces.has(piece.key) || this.#isLacking(piece)) return false;
    const descriptor = await findExisting(this.#job, piece);
    if (!descriptor) return false;
    if (piece.plain) this.#deliveries.note({ diffId: piece.key, descriptor });
    else this.#deliveries.take(piece.key);
    return true;
  }

  /** Whether every registry has just said that it lacks all that may stand for a piece. */
  #isLacking(piece: ImageBlob): boolean {
    const { registries: targets, known } = this.#job;
    const candidates = piece.plain ? known.candidates(piece.key).map(({ digest }) => digest) : [piece.key];
    const living = targets.flatMap((target) => target.active);
    if (candidates.length === 0 || living.length === 0) return false;
    return candidates.every((digest) => living.every((one) => one.lacks(digest)));
  }

  /** Sends the plain layers that the cache has in compressed form; the others stay for the source. */
  async fromCache(pieces: readonly ImageBlob[]): Promise<void> {
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
        const body = await cachedBlob(path, descriptor.digest);
        void this.#deliveries.ship({ piece, body, mediaType: descriptor.mediaType, fromCache: true });
      }),
    );
  }

  /** Sends documents and small blobs that are in memory. */
  fromMemory(pieces: readonly ImageBlob[], documents: ReadonlyMap<Digest, Buffer>): void {
    for (const piece of pieces) {
      const bytes = documents.get(piece.key);
      if (!bytes || this.isTaken(piece.key) || piece.plain) continue;
      this.#deliveries.take(piece.key);
      void this.#deliveries.ship({
        piece,
        body: memoryBlob(bytes, piece.key),
        mediaType: piece.mediaType,
        fromCache: false,
      });
    }
  }

  /** Moves what is missing out of a store: several pieces at once, the largest first. Never reads what is there. */
  async fromStore(source: StoreSource, pieces: readonly ImageBlob[]): Promise<void> {
    const bySize = [...pieces].sort((a, b) => (b.size ?? 0) - (a.size ?? 0));
    await Promise.all(
      bySize.map((piece) =>
        this.#slots(async () => {
          activeRegistries(this.#job);
          if (await this.#settle(piece)) return;
          this.#deliveries.take(piece.key);
          await this.#fromStored(source, piece);
        }),
      ),
    );
  }

  async #fromStored(source: StoreSource, piece: ImageBlob): Promise<void> {
    try {
      const stored = await source.open(piece.key);
      if (!stored) {
        this.#deliveries.leave(piece.key);
        return;
      }
      assertAsDescribed(stored, piece);
      const body = piece.plain ? undefined : readyBlob(stored, piece.key, this.#job);
      if (piece.plain) {
        await this.#shipWhileMade(piece, (workshop) => workshop.compress(stored.read(), piece.key));
      } else if (body) {
        await this.#deliveries.ship({ piece, body, mediaType: piece.mediaType, fromCache: false });
      } else {
        await this.#shipWhileMade(piece, (workshop) => workshop.passThrough(stored.read(), piece.key));
      }
    } catch (error) {
      this.#deliveries.spoil(piece.key, error);
    }
  }

  /** Sends a blob while it is made; the next one is begun when this one is made, sent or not. */
  async #shipWhileMade(piece: ImageBlob, make: (workshop: LayerBuilder) => StreamingBlob): Promise<void> {
    const workshop = await this.#openWorkshop();
    const { shipped } = await this.#making(async () => {
      const made = make(workshop);
      const shipped = this.#deliveries.ship(this.#madeShipment(piece, made));
      // A failure is the shipment's to tell; here it only frees the place.
      await Promise.race([made.completed().catch(() => {}), shipped]);
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
      activeRegistries(this.#job);
      if (options.isComplete()) break;
      const piece = blobOfEntry(entry);
      if (piece && !(options.isWanted(piece.key) && !(await this.#settle(piece)))) {
        entry.body.destroy();
        continue;
      }
      const shipment = this.#shipmentOf(entry, piece, workshop);
      if (options.hold) this.#hold(shipment);
      else void this.#deliveries.ship(shipment);
    }
    activeRegistries(this.#job);
  }

  #shipmentOf(entry: StreamedBlob, piece: ImageBlob | undefined, workshop: LayerBuilder): QueuedBlob {
    if (piece) this.#deliveries.take(piece.key);
    const plain = piece ? piece.plain : entry.format === 'tar';
    const made = plain ? workshop.compress(entry.body, piece?.key) : workshop.passThrough(entry.body, piece?.key);
    return this.#madeShipment(piece ?? unnamedLayer(entry), made);
  }

  /** Keeps a blob back until the tree is known. It is made to its end: nothing could be let go to make room for it. */
  #hold(shipment: QueuedBlob): void {
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
  #openWorkshop(): Promise<LayerBuilder> {
    this.#workshop ??= LayerBuilder.open(this.#job);
    return this.#workshop;
  }

  #madeShipment(piece: ImageBlob, made: StreamingBlob): QueuedBlob {
    const mediaType = piece.plain ? layerMediaType(this.#job.request.compression) : piece.mediaType;
    return { piece, body: made, made, mediaType, fromCache: false };
  }

  /** Waits until every delivery has ended, well or not. Throws when no target is left. */
  delivered(): Promise<void> {
    return this.#deliveries.ended();
  }
}

/**
 * Throws PushError for a blob that is not what the image's documents say. A registry accepts both, and no client can pull either: a
 * layer that is compressed twice, and one of another size than its descriptor's.
 */
function assertAsDescribed({ format, size }: StoredBlob, { key, plain, size: described }: ImageBlob): void {
  const remedy = 'the image is damaged where it is kept: build, pull or save it again';
  if (plain && format !== 'tar' && format !== 'other') {
    throw new PushError(
      'Export',
      `the layer ${key} is compressed (${format}), and the image's config says that it is not`,
      {
        remedy,
      },
    );
  }
  if (plain || size === undefined || described === undefined || size === described) return;
  throw new PushError('Export', `the blob ${key} has ${size} bytes where its descriptor says ${described}`, { remedy });
}

/**
 * Layers of a store that are compressed at once. One would leave the cores idle at each layer's end; more only take
 * memory, since all of them share the same threads.
 */
const MAKERS = 2;

/** The entries of a stream: as long as somebody wants them, and as the pieces that they are. */

/**
 * Gives what `source` gives until `abandoned` resolves. A tool that exports may take its time over the rest of a large
 * entry, or stand still: whoever has nobody left to send to does not wait for it.
 */
export async function* entriesUntil<T>(source: AsyncIterable<T>, abandoned: Promise<void>): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  let isAbandoned = false;
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), abandoned]);
      isAbandoned = next === undefined;
      if (!next || next.done) return;
      yield next.value;
    }
  } finally {
    const returned = iterator.return?.();
    // A source that stands still would answer this only after the call before it.
    if (isAbandoned) returned?.catch(() => {});
    else await returned;
  }
}

/** The piece that an entry is by its name and first bytes; undefined for the legacy form, which does not tell. */
export function blobOfEntry(entry: StreamedBlob): ImageBlob | undefined {
  if (!entry.digest) return undefined;
  const plain = entry.format === 'tar';
  const mediaType = plain
    ? MediaType.ociLayer
    : entry.format === 'zstd'
      ? MediaType.ociLayerZstd
      : MediaType.ociLayerGzip;
  return { key: entry.digest, plain, mediaType, size: entry.size, diffId: plain ? entry.digest : undefined };
}

/** The piece of a legacy `<id>/layer.tar`, whose diffID only its bytes will tell. */
export function unnamedLayer({ name, size }: StreamedBlob): ImageBlob {
  // `<id>/layer.tar`: the ID of the old form tells the layers apart, though it is no digest of theirs.
  return {
    key: UNNAMED,
    plain: true,
    mediaType: MediaType.ociLayer,
    size,
    diffId: undefined,
    label: name.slice(0, 12),
  };
}
