/**
 * Makes the blobs of one transfer while they are sent: layers that are compressed, and blobs that pass through a file.
 */

import type { StreamingBlob } from '../blob/blob.ts';
import type { Input } from '../blob/blocks.ts';
import type { CompressorPool } from '../blob/compress/pool.ts';
import type { Spool } from '../blob/spool.ts';
import { compressLayer, spoolBlob } from '../blob/streaming.ts';
import type { LayerCache } from '../cache/layer-cache.ts';
import type { Digest } from '../oci/types.ts';
import type { PushContext } from './context.ts';

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

  /** Sends a blob as it is, through a file of the spool. */
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
