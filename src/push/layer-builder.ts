/**
 * Makes the blobs of one transfer while they are sent: compressed layers, blobs that pass through a file; what entries
 * of a stream are.
 */

import type { StreamedBlob, StreamingBlob } from '../blob/blob.ts';
import type { Input } from '../blob/blocks.ts';
import type { CompressorPool } from '../blob/compress/pool.ts';
import type { Spool } from '../blob/spool.ts';
import { compressLayer, spoolBlob } from '../blob/streaming.ts';
import type { LayerCache } from '../cache/layer-cache.ts';
import { type Digest, MediaType } from '../oci/types.ts';
import type { PushContext } from './context.ts';
import type { ImageBlob } from './image-blobs.ts';
import type { RequestOptions } from './options.ts';
import { UNNAMED } from './queue.ts';

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

  static async open(context: PushContext): Promise<LayerBuilder> {
    const cache = context.request.dryRun ? undefined : await context.cache?.get();
    return new LayerBuilder(context, await context.spool.get(), await context.pool.get(), cache);
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

// The entries of an image's stream: read as long as somebody takes them, and which blob each of them is.

/**
 * Yields what `source` yields until `abandoned` resolves. A tool that exports may take its time over the rest of a
 * large entry, or stand still: when no registry is left, it is not waited for.
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

/** Whether an entry is a layer that is compressed again, as far as its first bytes tell. */
export const isRecompressible = (
  { format }: Pick<StreamedBlob, 'format'>,
  { forceCompression, compression }: Pick<RequestOptions, 'forceCompression' | 'compression'>,
): boolean => forceCompression && (format === 'gzip' || format === 'zstd') && format !== compression;

/**
 * The blob that an entry is by its name and first bytes; undefined for the legacy format, whose names do not say it.
 */
export function blobOfEntry(entry: StreamedBlob): ImageBlob | undefined {
  if (!entry.digest) return undefined;
  const plain = entry.format === 'tar';
  const compressed = entry.format === 'zstd' ? MediaType.ociLayerZstd : MediaType.ociLayerGzip;
  const mediaType = plain ? MediaType.ociLayer : compressed;
  return { key: entry.digest, plain, mediaType, size: entry.size, diffId: plain ? entry.digest : undefined };
}

/** The layer of a legacy `<id>/layer.tar`, whose diffID only its bytes will tell. */
export function unnamedLayer({ name, size }: StreamedBlob): ImageBlob {
  // `<id>/layer.tar`: the ID of the old format distinguishes the layers, though it is no digest of theirs.
  const label = `layer ${name.slice(0, 12)}`;
  return { key: UNNAMED, plain: true, mediaType: MediaType.ociLayer, size, diffId: undefined, label };
}
