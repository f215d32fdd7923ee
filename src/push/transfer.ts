/**
 * Moves the pieces of an image into every target: what is there stays, what the cache has is sent from it, the rest is
 * made from the source while it is read, and sent while it is made.
 */
import pLimit from 'p-limit';
import { type Descriptor, type Digest, MediaType } from '../image/oci.ts';
import type { ImageTree, StoreSource, StreamedBlob, StreamSource } from '../image/source.ts';
import { memoryBody, storedBody } from '../layer/bodies.ts';
import { layerMediaType } from '../layer/compress/compression.ts';
import { fileBody } from '../layer/file-body.ts';
import { compressLayer, type MadeBlob, spoolBlob } from '../layer/make.ts';
import type { BlobBody } from '../registry/body.ts';
import { PushError } from './error.ts';
import { type Job, livingTargets } from './job.ts';
import { type Piece, shortDigest } from './pieces.ts';
import { settlePiece } from './settle.ts';

/** A compressed layer whose file the cache may keep. */
export interface KeptLayer {
  readonly diffId: Digest;
  readonly descriptor: Descriptor;
  readonly path?: string;
  readonly secondsToMake?: number;
}

interface Shipment {
  readonly piece: Piece;
  readonly body: BlobBody;
  readonly mediaType: string;
  readonly fromCache: boolean;
  readonly made?: MadeBlob;
  readonly keep?: boolean;
}

export class Transfer {
  readonly #job: Job;
  readonly #force: ReadonlySet<Digest>;
  /** Pieces that are in the registry, on their way, or given up: nobody needs to look at them again. */
  readonly #taken = new Set<Digest>();
  readonly #spoiled = new Map<Digest, unknown>();
  readonly #deliveries: Promise<void>[] = [];
  readonly #held: Shipment[] = [];
  readonly #making = pLimit(MAKERS);
  readonly #compressed = new Map<Digest, Descriptor>();
  readonly #kept = new Map<Digest, KeptLayer>();
  #read = 0;
  #written = 0;

  /** `force` names pieces that are sent although the registry says that it has them. */
  constructor(job: Job, force: ReadonlySet<Digest> = new Set()) {
    this.#job = job;
    this.#force = force;
  }

  /** For each plain layer (by diffID) the compressed blob that stands for it. */
  get compressed(): ReadonlyMap<Digest, Descriptor> {
    return this.#compressed;
  }

  /** What the cache may keep of this transfer. */
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

  /** Takes the pieces that every target has already (by HEAD or mount), all at once. */
  async settle(pieces: readonly Piece[]): Promise<void> {
    await Promise.all(pieces.map((piece) => this.#settle(piece)));
  }

  async #settle(piece: Piece): Promise<boolean> {
    if (this.#taken.has(piece.key)) return true;
    if (this.#force.has(piece.key)) return false;
    const descriptor = await settlePiece(this.#job, piece);
    if (!descriptor) return false;
    this.#taken.add(piece.key);
    if (piece.plain) {
      this.#compressed.set(piece.key, descriptor);
      this.#kept.set(piece.key, { diffId: piece.key, descriptor });
    }
    return true;
  }

  /** Sends the plain layers that the cache has in compressed form; the others stay for the source. */
  async fromCache(pieces: readonly Piece[]): Promise<void> {
    const { cache, signal } = this.#job;
    if (!cache) return;
    const missing = pieces.filter(({ key, plain }) => plain && !this.#taken.has(key));
    await Promise.all(
      missing.map(async (piece) => {
        const found = await cache.restore(piece.key);
        signal.throwIfAborted();
        if (!found || this.#taken.has(piece.key)) return;
        this.#taken.add(piece.key);
        this.#compressed.set(piece.key, found.descriptor);
        this.#kept.set(piece.key, { diffId: piece.key, descriptor: found.descriptor, path: found.path });
        const body = await fileBody(found.path, found.descriptor.digest);
        this.#ship({ piece, body, mediaType: found.descriptor.mediaType, fromCache: true });
      }),
    );
  }

  /** Sends documents and small blobs that are in memory. */
  fromMemory(pieces: readonly Piece[], documents: ReadonlyMap<Digest, Buffer>): void {
    for (const piece of pieces) {
      const bytes = documents.get(piece.key);
      if (!bytes || this.#taken.has(piece.key) || piece.plain) continue;
      this.#taken.add(piece.key);
      this.#ship({ piece, body: memoryBody(bytes, piece.key), mediaType: piece.mediaType, fromCache: false });
    }
  }

  /** Moves what is missing out of a store: several pieces at once, the largest first. Never reads what is there. */
  async fromStore(source: StoreSource, pieces: readonly Piece[]): Promise<void> {
    // A slot is held until its piece is delivered, so that a slow registry holds back reading and compressing too.
    const limit = pLimit(this.#job.request.concurrency);
    const bySize = [...pieces].sort((a, b) => (b.size ?? 0) - (a.size ?? 0));
    await Promise.all(
      bySize.map((piece) =>
        limit(async () => {
          livingTargets(this.#job);
          if (await this.#settle(piece)) return;
          this.#taken.add(piece.key);
          await this.#fromStored(source, piece);
        }),
      ),
    );
  }

  async #fromStored(source: StoreSource, piece: Piece): Promise<void> {
    try {
      const stored = await source.open(piece.key);
      if (!stored) {
        this.#taken.delete(piece.key);
        return;
      }
      const { size } = stored;
      if (piece.plain) {
        await this.#shipWhileMade(piece, () => this.#compress(stored.read(), piece.key));
      } else if (stored.seekable && size !== undefined) {
        const body = storedBody({ ...stored, size, read: stored.read.bind(stored) }, piece.key, this.#job);
        await this.#ship({ piece, body, mediaType: piece.mediaType, fromCache: false });
      } else {
        await this.#shipWhileMade(piece, () => this.#passThrough(stored.read(), piece.key));
      }
    } catch (error) {
      this.#spoil(piece.key, error);
    }
  }

  /** Sends a blob while it is made; the next one is begun when this one is made, sent or not. */
  async #shipWhileMade(piece: Piece, make: () => MadeBlob): Promise<void> {
    const { shipped } = await this.#making(async () => {
      const made = make();
      const shipped = this.#ship(this.#madeShipment(piece, made));
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
    for await (const entry of source.blobs()) {
      livingTargets(this.#job);
      if (options.isComplete()) break;
      const piece = pieceOfEntry(entry);
      if (piece && !(options.isWanted(piece.key) && !(await this.#settle(piece)))) {
        entry.body.destroy();
        continue;
      }
      const shipment = this.#shipmentOf(entry, piece);
      if (options.hold) this.#held.push(shipment);
      else void this.#ship(shipment);
    }
  }

  #shipmentOf(entry: StreamedBlob, piece: Piece | undefined): Shipment {
    if (piece) this.#taken.add(piece.key);
    const plain = piece ? piece.plain : entry.form === 'tar';
    const made = plain ? this.#compress(entry.body, piece?.key) : this.#passThrough(entry.body, piece?.key);
    return this.#madeShipment(piece ?? unnamedPiece(entry), made);
  }

  /** Sends what was held until the tree was known, and drops what it does not name. */
  async releaseHeld(isWanted: (key: Digest) => boolean): Promise<void> {
    for (const shipment of this.#held.splice(0)) {
      if (isWanted(shipment.piece.key)) void this.#ship(shipment);
      else await shipment.made?.release();
    }
  }

  #compress(input: Parameters<typeof compressLayer>[0], diffId: Digest | undefined): MadeBlob {
    const { pool, spool, signal, cache, request } = this.#job;
    const path = cache && diffId && !request.dryRun ? cache.layerPath(diffId) : undefined;
    return compressLayer(input, {
      pool,
      spool,
      signal,
      ...(diffId ? { diffId } : {}),
      ...(path ? { path } : {}),
      onProgress: this.#progress(),
    });
  }

  #passThrough(input: Parameters<typeof spoolBlob>[0], digest: Digest | undefined): MadeBlob {
    const { spool, signal } = this.#job;
    return spoolBlob(input, { spool, signal, ...(digest ? { digest } : {}), onProgress: this.#progress() });
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

  #madeShipment(piece: Piece, made: MadeBlob): Shipment {
    const mediaType = piece.plain ? layerMediaType(this.#job.request.compression) : piece.mediaType;
    const keep = piece.plain && this.#job.cache !== undefined;
    return { piece, body: made, made, mediaType, fromCache: false, keep };
  }

  /** Delivers a blob to every target; what was made for it is noted and let go once all of them have it. */
  #ship(shipment: Shipment): Promise<void> {
    const delivery = this.#deliver(shipment);
    this.#deliveries.push(delivery);
    return delivery;
  }

  async #deliver({ piece, body, made, mediaType, fromCache, keep }: Shipment): Promise<void> {
    const targets = this.#job.targets.filter((target) => target.alive);
    const confirmed = new Map(targets.map((target) => [target, 0]));
    await Promise.all(
      targets.map((target) =>
        target.deliver({
          body,
          label: piece.label ?? shortDigest(piece.key),
          mediaType,
          diffId: piece.diffId,
          fromCache,
          force: this.#force.has(piece.key),
          mountFrom: piece.plain ? undefined : this.#job.known.repositories(target.host, piece.key)[0],
          onConfirmed: (bytes) => {
            confirmed.set(target, bytes);
            const living = [...confirmed].filter(([{ alive }]) => alive).map(([, count]) => count);
            made?.confirmed(Math.min(...living));
          },
        }),
      ),
    );
    // Nobody wants it any more; waiting for its end could take for ever, since nobody reads it.
    if (!targets.some(({ alive }) => alive)) return made?.release();
    if (made) await this.#settleMade(piece, made, keep === true);
    else await body.whole().catch((error: unknown) => this.#spoil(piece.key, error));
  }

  async #settleMade(piece: Piece, made: MadeBlob, keep: boolean): Promise<void> {
    try {
      const { digest, size } = await made.whole();
      this.#job.ledger.addMaking(made.times);
      const fits = keep && piece.key !== UNNAMED && size <= this.#job.request.cacheMaxSize;
      if (piece.plain) {
        const diffId = (await made.diffId) ?? piece.key;
        const descriptor = { mediaType: layerMediaType(this.#job.request.compression), digest, size };
        this.#taken.add(diffId);
        this.#compressed.set(diffId, descriptor);
        const secondsToMake = made.times.compressingMs / 1000;
        this.#kept.set(diffId, { diffId, descriptor, secondsToMake, ...(fits ? { path: made.file } : {}) });
      }
      await made.release(fits);
    } catch (error) {
      await made.release().catch(() => {});
      this.#spoil(piece.key, error);
    }
  }

  #spoil(key: Digest, reason: unknown): void {
    if (this.#job.signal.aborted) return;
    this.#taken.delete(key);
    this.#spoiled.set(key, reason);
  }

  /** Waits until every delivery has ended, well or not. Throws when no target is left. */
  async delivered(): Promise<void> {
    await Promise.all(this.#deliveries);
    livingTargets(this.#job);
  }
}

/**
 * Layers of a store that are compressed at once. One would leave the cores idle at each layer's end; more only take
 * memory, since all of them share the same threads.
 */
const MAKERS = 2;

/** Stands for the digest of a legacy `layer.tar` until it was hashed. */
const UNNAMED: Digest = `sha256:${'0'.repeat(64)}`;

function pieceOfEntry(entry: StreamedBlob): Piece | undefined {
  if (!entry.digest) return undefined;
  const plain = entry.form === 'tar';
  const mediaType = plain
    ? MediaType.ociLayer
    : entry.form === 'zstd'
      ? MediaType.ociLayerZstd
      : MediaType.ociLayerGzip;
  return { key: entry.digest, plain, mediaType, size: entry.size, diffId: plain ? entry.digest : undefined };
}

function unnamedPiece({ name, size }: StreamedBlob): Piece {
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

/** Every piece of a tree is in the registry or on its way; otherwise says which one is in neither place, and what to do. */
export function assertWhole(transfer: Transfer, pieces: readonly Piece[], tree: ImageTree): void {
  const missing = pieces.filter(({ key }) => !transfer.isTaken(key));
  if (missing.length === 0) return;
  const [first] = missing as [Piece];
  const reason = transfer.spoiled.get(first.key);
  if (reason !== undefined) throw reason;
  const names = missing.map(({ key }) => key).join(', ');
  const what = tree.kind === 'composed' ? 'the image' : 'a manifest of the image';
  throw new PushError('Export', `${what} names ${names}, which neither the export nor the registry has`, {
    // https://github.com/moby/moby/issues/49473: `docker save` leaves out layers that the store shares or never pulled.
    remedy: 'pull or build the image again so that all of its layers are on this machine, then push it',
  });
}
