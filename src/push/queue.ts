/**
 * The blobs of one transfer that are on their way: made while they are sent, each sent to all registries at once, and
 * what became of it.
 */

import { Readable } from 'node:stream';
import type { BlobIdentity, ReadableBlob, StoredBlob, StreamingBlob } from '../blob/blob.ts';
import type { Input } from '../blob/blocks.ts';
import { COMPRESSIONS, layerMediaType } from '../blob/compress/compression.ts';
import type { CompressorPool } from '../blob/compress/pool.ts';
import type { Spool } from '../blob/spool.ts';
import { compressLayer, spoolBlob } from '../blob/streaming.ts';
import type { LayerCache } from '../cache/layer-cache.ts';
import type { Descriptor, Digest } from '../oci/types.ts';
import { decompress, decompressAny, isCompressed } from '../source/compression.ts';
import { activeRegistries, type PushContext } from './context.ts';
import { type ImageBlob, UNNAMED, type UploadAgain } from './image-blobs.ts';
import type { BlobUpload, TargetRegistry } from './registries.ts';

/** A compressed layer whose file the cache may keep. */
export interface KeptLayer {
  readonly diffId: Digest;
  readonly descriptor: Descriptor;
  readonly path?: string;
  readonly secondsToMake?: number;
}

/** A blob that is to be uploaded. */
export interface QueuedBlob {
  readonly blob: ImageBlob;
  readonly body: ReadableBlob;
  readonly mediaType: string;
  readonly fromCache: boolean;
  /** The blob in the making, whose file is let go when every registry has it. */
  readonly made?: StreamingBlob;
}

export class UploadQueue {
  readonly #context: PushContext;
  readonly #again: UploadAgain;
  /** Blobs that are in the registry or on their way there. */
  readonly #taken = new Set<Digest>();
  readonly #unreadable = new Map<Digest, unknown>();
  readonly #running: Promise<void>[] = [];
  readonly #compressed = new Map<Digest, Descriptor>();
  readonly #kept = new Map<Digest, KeptLayer>();
  readonly #abandoned = Promise.withResolvers<void>();
  /**
   * Whether the registries have the image's config: this very image was pushed before, and its layers are likely to be
   * there.
   */
  isPushedBefore = false;
  /**
   * The lowest layer (its diffID) of an image whose layers are compressed here, once it is known that it must be sent.
   */
  lowest: Digest | undefined;

  constructor(context: PushContext, again: UploadAgain) {
    this.#context = context;
    this.#again = again;
  }

  /** For each plain layer (by diffID) the compressed blob that stands for it. */
  get compressed(): ReadonlyMap<Digest, Descriptor> {
    return this.#compressed;
  }

  /** What the cache may keep. */
  get kept(): readonly KeptLayer[] {
    return [...this.#kept.values()];
  }

  /** Blobs that could not be read from their source, with the reason; another source may have them. */
  get unreadable(): ReadonlyMap<Digest, unknown> {
    return this.#unreadable;
  }

  isTaken(key: Digest): boolean {
    return this.#taken.has(key);
  }

  take(key: Digest): void {
    this.#taken.add(key);
  }

  /** A source does not have the blob: it is left to the next one. */
  leave(key: Digest): void {
    this.#taken.delete(key);
  }

  /** Notes the compressed blob that stands for a plain layer. */
  note(layer: KeptLayer): void {
    this.#context.known.add(layer.diffId, layer.descriptor);
    this.#context.names.addBlob(layer.descriptor.digest, layer.diffId);
    this.#taken.add(layer.diffId);
    this.#compressed.set(layer.diffId, layer.descriptor);
    this.#kept.set(layer.diffId, layer);
  }

  /** Notes that a blob could not be read from its source. */
  markUnreadable(key: Digest, reason: unknown): void {
    if (this.#context.signal.aborted) return;
    this.#taken.delete(key);
    this.#unreadable.set(key, reason);
  }

  /** Uploads a blob to every registry; its spool file is released once all of them have it. Never rejects. */
  add(queued: QueuedBlob): Promise<void> {
    const upload = this.#upload(queued).catch((error: unknown) => this.markUnreadable(queued.blob.key, error));
    this.#running.push(upload);
    return upload;
  }

  /** Resolves when an upload found no registry left. */
  get abandoned(): Promise<void> {
    return this.#abandoned.promise;
  }

  /** Waits until every upload has ended, well or not. Throws when no registry is left. */
  async finished(): Promise<void> {
    await Promise.all(this.#running);
    activeRegistries(this.#context);
  }

  async #upload(queued: QueuedBlob): Promise<void> {
    const { blob, body, made } = queued;
    const { known } = this.#context;
    const registries = this.#context.registries.filter(({ isActive }) => isActive);
    const confirmed = new Map(registries.map((registry) => [registry, 0]));
    const onConfirmed = (registry: TargetRegistry, bytes: number) => {
      confirmed.set(registry, bytes);
      const active = [...confirmed].filter(([{ isActive }]) => isActive).map(([, count]) => count);
      made?.confirmed(Math.min(...active));
    };
    await Promise.all(registries.map((registry) => registry.upload(this.#uploadOf(queued, registry, onConfirmed))));
    // Its end is not waited for: without a reader it may never come.
    if (!registries.some(({ isActive }) => isActive)) {
      this.#abandoned.resolve();
      return made?.release();
    }
    const { digest } = made ? await this.#finish(blob, made) : await body.completed();
    for (const { host, active } of registries)
      for (const { repository } of active) known.addRepository(host, digest, repository.name);
  }

  #uploadOf(
    { blob, body, mediaType, fromCache }: QueuedBlob,
    registry: TargetRegistry,
    onConfirmed: (registry: TargetRegistry, bytes: number) => void,
  ): BlobUpload {
    return {
      body,
      label: this.#context.names.nameOf(blob),
      mediaType,
      diffId: blob.diffId,
      fromCache,
      sessionKey: this.#sessionKey(blob, body),
      isUploadedAgain: (repository) => this.#again.blobs.has(blob.key) && this.#again.repositories.has(repository),
      isLikelyThere: this.isPushedBefore && blob.plain,
      place: this.#placeOf(blob),
      // What the caches say of a layer that is compressed again may be of other bytes: its digest is not known yet.
      mountFrom: body.identity && this.#context.known.repositories(registry.host, body.identity.digest)[0],
      onConfirmed: (bytes) => onConfirmed(registry, bytes),
    };
  }

  #placeOf({ key, plain }: ImageBlob): BlobUpload['place'] {
    if (!plain || key === UNNAMED || this.lowest === undefined) return undefined;
    return key === this.lowest ? 'lowest' : 'above';
  }

  /**
   * A layer that is compressed has no digest yet, but the same compressor makes the same bytes of it; the registry
   * compares their digest.
   */
  #sessionKey({ key, plain }: ImageBlob, body: ReadableBlob): string | undefined {
    const { compression, compressionLevel = COMPRESSIONS[compression].defaultLevel } = this.#context.request;
    if (body.identity) return body.identity.digest;
    if (key === UNNAMED) return undefined;
    return plain ? `${key} ${compression} ${compressionLevel}` : key;
  }

  /**
   * A layer in the old format of `docker save` is uploaded before its diffID is known, under another name than it then
   * has.
   */
  #reportName(blob: ImageBlob, diffId: Digest): void {
    if (blob.label === undefined) return;
    const name = this.#context.names.nameOf({ key: diffId });
    this.#context.report({ type: 'info', text: `${blob.label} is ${name}` });
  }

  /** Notes what was made, and releases its file or leaves it to the cache. */
  async #finish(blob: ImageBlob, made: StreamingBlob): Promise<BlobIdentity> {
    const { stats, cache, request } = this.#context;
    try {
      const identity = await made.completed();
      const { digest, size } = identity;
      stats.addMaking(made.times);
      const fits = blob.plain && cache !== undefined && blob.key !== UNNAMED && size <= request.cacheMaxSize;
      if (blob.plain) {
        const diffId = (await made.diffId) ?? blob.key;
        this.#reportName(blob, diffId);
        const descriptor = { mediaType: layerMediaType(request.compression), digest, size };
        const secondsToMake = made.times.compressingMs / 1000;
        // Not all of it is in one file where the disk is short.
        const path = fits ? made.file : undefined;
        this.note({ diffId, descriptor, secondsToMake, ...(path === undefined ? {} : { path }) });
      }
      await made.release(fits);
      return identity;
    } catch (error) {
      await made.release().catch(() => {});
      throw error;
    }
  }
}

/** Makes blobs while they are sent: compressed layers, and blobs that pass through a file. */
export class LayerBuilder {
  readonly #context: PushContext;
  readonly #spool: Spool;
  readonly #pool: CompressorPool;
  readonly #cache: LayerCache | undefined;
  #read = 0;
  #written = 0;

  private constructor(context: PushContext, spool: Spool, pool: CompressorPool, cache: LayerCache | undefined) {
    this.#context = context;
    this.#spool = spool;
    this.#pool = pool;
    this.#cache = cache;
  }

  /** Opens what the first blob needs: the spool, the compressor, the cache. */
  static async open(context: PushContext): Promise<LayerBuilder> {
    const cache = context.request.dryRun ? undefined : await context.cache?.get();
    return new LayerBuilder(context, await context.spool.get(), await context.pool.get(), cache);
  }

  /** Compresses the plain bytes of a layer of some format, where the cache may keep it if it has a name. */
  compress(input: Readable, stored: Pick<StoredBlob, 'format' | 'isRemote'>, diffId?: Digest): StreamingBlob {
    const path = diffId && this.#cache?.layerPath(diffId);
    return compressLayer(plainBytes(input, stored), {
      ...this.#options(),
      pool: this.#pool,
      ...(diffId ? { diffId } : {}),
      ...(path ? { path } : {}),
    });
  }

  /** Sends a blob as it is, through a file of the spool. */
  passThrough(input: Input, digest: Digest | undefined): StreamingBlob {
    return spoolBlob(input, { ...this.#options(), ...(digest ? { digest } : {}) });
  }

  #options() {
    return { spool: this.#spool, signal: this.#context.signal, onProgress: this.#progress() };
  }

  #progress(): (read: number, written: number) => void {
    let lastRead = 0;
    let lastWritten = 0;
    return (read, written) => {
      this.#read += read - lastRead;
      this.#written += written - lastWritten;
      lastRead = read;
      lastWritten = written;
      this.#context.report({ type: 'made', read: this.#read, written: this.#written });
    };
  }
}

/**
 * The bytes of a layer that its diffID is the digest of. The format of one that another host has is only what its media
 * type says.
 */
function plainBytes(input: Readable, { format, isRemote = false }: Pick<StoredBlob, 'format' | 'isRemote'>): Readable {
  if (isRemote) return Readable.from(decompressAny(input), { objectMode: false });
  return isCompressed(format) ? Readable.from(decompress(input, format), { objectMode: false }) : input;
}
