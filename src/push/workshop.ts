/** Makes the blobs of one transfer: layers that are compressed, and blobs of a stream, which pass through a file. */
import type { LayerCache } from '../cache/layer-cache.ts';
import type { Digest } from '../image/oci.ts';
import type { CompressorPool } from '../layer/compress/pool.ts';
import type { Input } from '../layer/gather.ts';
import { compressLayer, type MadeBlob, spoolBlob } from '../layer/make.ts';
import type { Spool } from '../layer/spool.ts';
import type { Job } from './job.ts';

export class Workshop {
  readonly #job: Job;
  readonly #spool: Spool;
  readonly #pool: CompressorPool;
  readonly #cache: LayerCache | undefined;
  #read = 0;
  #written = 0;

  private constructor(job: Job, spool: Spool, pool: CompressorPool, cache: LayerCache | undefined) {
    this.#job = job;
    this.#spool = spool;
    this.#pool = pool;
    this.#cache = cache;
  }

  static async open(job: Job): Promise<Workshop> {
    const cache = job.request.dryRun ? undefined : await job.cache?.get();
    return new Workshop(job, await job.spool.get(), await job.pool.get(), cache);
  }

  /** Compresses a plain layer, where the cache may keep it if it has a name. */
  compress(input: Input, diffId: Digest | undefined): MadeBlob {
    const path = diffId && this.#cache?.layerPath(diffId);
    return compressLayer(input, {
      ...this.#options(),
      pool: this.#pool,
      ...(diffId ? { diffId } : {}),
      ...(path ? { path } : {}),
    });
  }

  passThrough(input: Input, digest: Digest | undefined): MadeBlob {
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
