/**
 * Carries a plan out: what is in the registry stays, what is in memory or in the cache is sent from there, the rest is
 * read from the source, compressed while it is read, and sent while it is compressed.
 */

import pLimit from 'p-limit';
import type { StreamedBlob, StreamingBlob } from '../blob/blob.ts';
import { layerMediaType } from '../blob/compress/compression.ts';
import { cachedBlob, memoryBlob, readyBlob } from '../blob/ready.ts';
import { takeUntil } from '../common/async.ts';
import type { ImageTree } from '../oci/image-tree.ts';
import { type Digest, isImageConfigType } from '../oci/types.ts';
import type { StoreSource, StreamSource } from '../source/source.ts';
import { activeRegistries, type PushContext } from './context.ts';
import {
  assertAsDescribed,
  blobsOf,
  type ImageBlob,
  isRecompressible,
  UNNAMED,
  type UploadAgain,
  unnamedLayer,
} from './image-blobs.ts';
import { type BlobPlace, Plan } from './plan.ts';
import { LayerBuilder, type QueuedBlob, UploadQueue } from './queue.ts';
import { SMALL_BLOB, UploadSlots } from './slots.ts';

export class Transfer {
  readonly #context: PushContext;
  readonly #plan: Plan;
  readonly #queue: UploadQueue;
  readonly #held: QueuedBlob[] = [];
  /** Layers of a stream that are sent once their digest is known. */
  readonly #naming: Promise<void>[] = [];
  /** Cached layers whose files are being opened. */
  readonly #opening: Promise<void>[] = [];
  /** Settles when the last call of `locate` has: no layer without a name is sent before. */
  #locating: Promise<unknown> = Promise.resolve();
  readonly #making = pLimit(MAKERS);
  /**
   * For blobs of stores. A slot is held until its blob is in every registry, so that a slow one holds back reading too.
   */
  readonly #slots: UploadSlots;
  /** Called when no more small blobs are expected: their places are free for large ones. */
  readonly #expected: readonly (() => void)[];
  readonly #onFirstUpload: () => void;
  #hasBegun = false;
  /** The image's config, once its tree is known. */
  #config: ImageBlob | undefined;
  /** The diffID of the lowest layer that is compressed here. */
  #lowest: Digest | undefined;
  #builder: Promise<LayerBuilder> | undefined;

  /** `onFirstUpload` is called before the first blob is sent. */
  constructor(context: PushContext, again: UploadAgain, onFirstUpload: () => void = () => {}) {
    this.#context = context;
    this.#onFirstUpload = onFirstUpload;
    this.#plan = new Plan(context, again);
    this.#queue = new UploadQueue(context, again);
    this.#slots = new UploadSlots(context.request.concurrency);
    this.#expected = context.registries.map((registry) => registry.expectSmall());
  }

  /** For each plain layer (by diffID) the compressed blob that stands for it. */
  get compressed(): UploadQueue['compressed'] {
    return this.#queue.compressed;
  }

  /** What the cache may keep of this transfer. */
  get kept(): UploadQueue['kept'] {
    return this.#queue.kept;
  }

  /**
   * Why a blob could not be read from its source; undefined when it was, or was not there. Another source may have it.
   */
  whyUnreadable(key: Digest): unknown {
    // A legacy layer has no name until it was read.
    return this.#queue.unreadable.get(key) ?? this.#queue.unreadable.get(UNNAMED);
  }

  /** Whether a blob is in the registry or on its way there. */
  isTaken(key: Digest): boolean {
    return this.#queue.isTaken(key);
  }

  /** The layers that are compressed here, from the bottom up. */
  knowLayers([lowest]: readonly Digest[]): void {
    this.#lowest = lowest;
  }

  /** The tree is known now: its documents need no source. */
  know(tree: ImageTree): void {
    this.#context.names.addTree(tree);
    this.#plan.know(tree);
    if (tree.kind === 'composed') this.knowLayers(tree.diffIds);
    this.#config = blobsOf(tree).find(({ mediaType }) => isImageConfigType(mediaType));
  }

  /**
   * Sends or leaves the blobs that need no source, all registries asked at once. Resolves to those that only the source
   * has; `missing` is called for each as soon as that is known. Throws when no registry is left.
   */
  async locate(blobs: readonly ImageBlob[], missing: () => void = () => {}): Promise<readonly ImageBlob[]> {
    const locating = Promise.all(
      blobs.map(async (blob) => {
        const isNeeded = await this.#needsSource(blob);
        if (isNeeded) missing();
        return isNeeded;
      }),
    );
    this.#locating = locating.catch(() => {});
    const needed = await locating;
    return blobs.filter((_, index) => needed[index]);
  }

  async #needsSource(blob: ImageBlob): Promise<boolean> {
    if (this.isTaken(blob.key)) return false;
    const place = await this.#plan.locate(blob);
    // Whether a layer is likely to be there is told by the config, which is asked for no later.
    if (blob.plain && this.#config) {
      this.#queue.isPushedBefore ||= (await this.#plan.locate(this.#config)).at === 'registry';
    }
    if (blob.key === this.#lowest && place.at !== 'registry') this.#queue.lowest = blob.key;
    // Two entries of a stream may be the same layer.
    if (this.isTaken(blob.key)) return false;
    if (place.at === 'source') return true;
    await this.#take(blob, place);
    return false;
  }

  async #take(blob: ImageBlob, place: Exclude<BlobPlace, { at: 'source' }>): Promise<void> {
    const { mediaType } = blob;
    if (place.at === 'registry') {
      if (blob.plain) this.#queue.note({ diffId: blob.key, descriptor: place.descriptor });
      else this.#queue.take(blob.key);
    } else if (place.at === 'memory') {
      this.#queue.take(blob.key);
      void this.#add({ blob, body: memoryBlob(place.bytes, blob.key), mediaType, fromCache: false });
    } else {
      const { descriptor, path } = place;
      this.#queue.note({ diffId: blob.key, descriptor, path });
      const adding = cachedBlob(path, descriptor.digest).then((body) => {
        void this.#add({ blob, body, mediaType: descriptor.mediaType, fromCache: true });
      });
      // It counts as taken from here on: who waits for the end must wait for its beginning too.
      this.#opening.push(adding.catch(() => {}));
      await adding;
    }
  }

  /**
   * Moves what is missing out of a store: small blobs and plain layers as soon as they are known to be missing, then
   * the largest first. Nothing is read of what is there. `onRead` is called before the first blob is opened.
   */
  async fromStore(source: StoreSource, blobs: readonly ImageBlob[], onRead: () => void = () => {}): Promise<void> {
    const located = new Map(blobs.map((blob) => [blob, this.#needsSource(blob)]));
    const send = async (blob: ImageBlob): Promise<void> => {
      if (!(await located.get(blob))) return;
      await this.#slots.run(blob.size, async () => {
        activeRegistries(this.#context);
        if (this.isTaken(blob.key)) return;
        this.#queue.take(blob.key);
        onRead();
        await this.#fromStored(source, blob);
      });
    };
    const isSmall = ({ size }: ImageBlob) => size !== undefined && size <= SMALL_BLOB;
    const small = Promise.allSettled(blobs.filter(isSmall).map(send));
    void small.then(() => this.#expectNoSmall());
    // Plain layers have no sizes: none is known to be the largest.
    const unsized = Promise.allSettled(blobs.filter(({ size }) => size === undefined).map(send));
    // Of large blobs the largest goes first, and it must be known which that is.
    await Promise.allSettled(located.values());
    const large = blobs.filter(({ size = 0 }) => size > SMALL_BLOB).sort((a, b) => (b.size ?? 0) - (a.size ?? 0));
    const sent = [...(await Promise.allSettled(large.map(send))), ...(await small), ...(await unsized)];
    // Every reading has ended: the store can be closed.
    const failed = sent.find(({ status }) => status === 'rejected');
    if (failed?.status === 'rejected') throw failed.reason;
  }

  async #fromStored(source: StoreSource, blob: ImageBlob): Promise<void> {
    const { key, plain, mediaType } = blob;
    const closeAhead = this.#openAhead(blob);
    try {
      const stored = await source.open(blob.compressedAs ?? key);
      if (!stored) {
        this.#queue.leave(key);
        closeAhead();
        return;
      }
      assertAsDescribed(stored, blob);
      // What several registries take is read once, for all of them.
      const isReadOnce = stored.isRemote && activeRegistries(this.#context).length > 1;
      const body = plain || isReadOnce ? undefined : readyBlob(stored, key, this.#context);
      if (body) await this.#add({ blob, body, mediaType, fromCache: false });
      else if (plain) await this.#sendWhileMade(blob, (builder) => builder.compress(stored.read(), stored, key));
      else await this.#sendWhileMade(blob, (builder) => builder.passThrough(stored.read(), key));
    } catch (error) {
      this.#queue.markUnreadable(key, error);
      closeAhead();
    }
  }

  /**
   * Opens the uploads of a small blob that is about to be read. The returned function deletes those that were not used.
   */
  #openAhead(blob: ImageBlob): () => void {
    const { key, plain, size = Number.POSITIVE_INFINITY } = blob;
    if (plain || size > SMALL_BLOB) return () => {};
    const label = this.#context.names.nameOf(blob);
    const opening = activeRegistries(this.#context).map(async (registry) => {
      await registry.openAhead(key, size, label);
      return registry;
    });
    return () => {
      for (const opened of opening) void opened.then((registry) => registry.closeAhead(key));
    };
  }

  /** Sends a blob while it is made; the next one is begun when this one is made, sent or not. */
  async #sendWhileMade(blob: ImageBlob, make: (builder: LayerBuilder) => StreamingBlob): Promise<void> {
    const builder = await this.#openBuilder();
    const { made, sent } = await this.#making(async () => {
      const made = make(builder);
      const sent = this.#add(this.#madeBlob(blob, made));
      // A failure is reported by the queue; here it only ends the waiting.
      await Promise.race([made.completed().catch(() => {}), sent]);
      return { made, sent };
    });
    // A small one holds no place that the next one could have.
    if (made.identity === undefined || made.identity.size > SMALL_BLOB) await sent;
  }

  /**
   * Moves what is missing out of a stream, deciding each entry as it arrives, and stops reading as soon as `isComplete`
   * says that nothing more is needed. `blobOf` returns undefined for a layer whose diffID only its bytes tell; with
   * `hold` nothing is sent before `releaseHeld`, because only the tree will tell what belongs.
   */
  async fromStream(
    source: StreamSource,
    options: { blobOf(entry: StreamedBlob): ImageBlob | 'unwanted' | undefined; isComplete(): boolean; hold: boolean },
  ): Promise<void> {
    // Before there is an entry: one that breaks must find a listener.
    const builder = await this.#openBuilder();
    for await (const entry of takeUntil(source.blobs(), this.#queue.abandoned)) {
      activeRegistries(this.#context);
      if (options.isComplete()) break;
      const blob = options.blobOf(entry);
      if (blob === 'unwanted' || (blob && !(await this.#needsSource(blob)))) {
        entry.body.destroy();
        continue;
      }
      if (!blob) await this.#locating;
      const queued = this.#queuedOf(entry, blob, builder);
      if (options.hold) this.#hold(queued);
      else if (!blob && this.compressed.size > 0) this.#naming.push(this.#addOnceNamed(queued));
      else void this.#add(queued);
    }
    activeRegistries(this.#context);
  }

  #queuedOf(entry: StreamedBlob, blob: ImageBlob | undefined, builder: LayerBuilder): QueuedBlob {
    if (blob) this.#queue.take(blob.key);
    const plain = blob ? blob.plain : entry.format === 'tar' || isRecompressible(entry, this.#context.request);
    const made = plain ? builder.compress(entry.body, entry, blob?.key) : builder.passThrough(entry.body, blob?.key);
    return this.#madeBlob(blob ?? unnamedLayer(entry), made);
  }

  /** Keeps a blob back until the tree is known. It is made to its end: nothing could be sent to make room for it. */
  #hold(queued: QueuedBlob): void {
    queued.body.reach(Number.POSITIVE_INFINITY).catch(() => {});
    this.#held.push(queued);
  }

  /**
   * A layer without a name may be one that a registry has or the cache has brought: it is sent once its bytes tell that
   * it is none.
   */
  async #addOnceNamed(queued: QueuedBlob): Promise<void> {
    queued.body.reach(Number.POSITIVE_INFINITY).catch(() => {});
    const diffId = await queued.made?.diffId?.catch(() => undefined);
    if (diffId !== undefined && this.isTaken(diffId)) await queued.made?.release();
    else await this.#add(queued);
  }

  /** Sends what was held until the tree was known, and drops what it does not name. */
  async releaseHeld(isWanted: (key: Digest) => boolean): Promise<void> {
    for (const queued of this.#held.splice(0)) {
      const { key } = queued.blob;
      const diffId = key === UNNAMED ? await queued.made?.diffId?.catch(() => undefined) : undefined;
      if (isWanted(diffId ?? key)) void this.#add(queued);
      else await queued.made?.release();
    }
  }

  /** Loaded and opened for the first blob that is made. */
  #openBuilder(): Promise<LayerBuilder> {
    this.#builder ??= LayerBuilder.open(this.#context);
    return this.#builder;
  }

  #madeBlob(blob: ImageBlob, made: StreamingBlob): QueuedBlob {
    const mediaType = blob.plain ? layerMediaType(this.#context.request.compression) : blob.mediaType;
    return { blob, body: made, made, mediaType, fromCache: false };
  }

  #add(queued: QueuedBlob): Promise<void> {
    if (!this.#hasBegun) this.#onFirstUpload();
    this.#hasBegun = true;
    return this.#queue.add(queued);
  }

  /** Waits until every upload has ended, well or not. Throws when no registry is left. */
  async finished(): Promise<void> {
    this.#expectNoSmall();
    await Promise.all([...this.#naming, ...this.#opening]);
    await this.#queue.finished();
  }

  #expectNoSmall(): void {
    for (const end of this.#expected) end();
  }

  /** The blobs of a tree that neither a registry has nor an upload brings. */
  missingOf(tree: ImageTree): readonly ImageBlob[] {
    return blobsOf(tree).filter(({ key }) => !this.isTaken(key));
  }
}

/**
 * Layers of a store that are compressed at once. One would leave the cores idle at each layer's end; more only take
 * memory, since all of them share the same threads.
 */
const MAKERS = 2;
