/** Layers that are made while they are uploaded: compressed on all cores, or passed through as they came. */

import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { LayerError } from '../common/error.ts';
import type { Digest } from '../oci/types.ts';
import type { BlobIdentity, Reach, StreamingBlob } from './blob.ts';
import type { Input } from './blocks.ts';
import { type CompressorPool, OrderedCompressor } from './compress/pool.ts';
import type { Spool } from './spool.ts';
import { SpoolShortError } from './spool-file.ts';
import { BlobWriter } from './writer.ts';

/** A layer that is compressed here. */
interface StreamingLayer extends StreamingBlob {
  readonly diffId: Promise<Digest>;
}

/** One write of a blob that is passed through, bytes. */
const COPY_BYTES = 1024 * 1024;

interface CommonOptions {
  readonly spool: Spool;
  /** Where the cache wants the file; a name of the spool's own without it. */
  readonly path?: string | undefined;
  readonly signal: AbortSignal;
  /** Bytes read from the input, bytes written to the spool. Called for every block. */
  readonly onProgress?: ((read: number, written: number) => void) | undefined;
}

interface CompressOptions extends CommonOptions {
  readonly pool: CompressorPool;
  /** The plain bytes must have it. */
  readonly diffId?: Digest | undefined;
}

interface SpoolOptions extends CommonOptions {
  /** The bytes must have it. */
  readonly digest?: Digest | undefined;
  /** Bytes; there must be as many. */
  readonly size?: number | undefined;
}

/** Compresses a plain layer. Returns at once; the work goes on until the input ends, something fails, or `release`. */
export function compressLayer(input: Input, options: CompressOptions): StreamingLayer {
  const { pool, spool, diffId: expected } = options;
  const maker = new BlobWriter(input, spool.file(options.path), {
    name: expected ? `the layer with diffID ${expected}` : 'the layer',
    signal: options.signal,
    onProgress: options.onProgress,
  });
  const diffId = Promise.withResolvers<Digest>();
  // It need not be awaited.
  diffId.promise.catch(() => undefined);
  maker.growth.completed().catch(diffId.reject);
  void maker.run(async () => {
    const plain = createHash('sha256');
    const compressor = new OrderedCompressor(maker, pool);
    for await (const block of maker.blocks(() => pool.block())) {
      plain.update(block);
      await compressor.submit(block);
    }
    // An empty layer is one empty member or frame.
    if (maker.read === 0) await compressor.submit(pool.block().subarray(0, 0));
    const found: Digest = `sha256:${plain.digest('hex')}`;
    expectSame('diffID', found, expected);
    diffId.resolve(found);
    await compressor.drained();
  });
  return Object.assign(new Made(maker), { diffId: diffId.promise });
}

/**
 * Passes a blob through byte for byte (a layer that came compressed, an artifact). Returns at once, like
 * `compressLayer`.
 */
export function spoolBlob(input: Input, options: SpoolOptions): StreamingBlob {
  const maker = new BlobWriter(input, options.spool.file(options.path), {
    name: options.digest ? `the blob ${options.digest}` : 'the blob',
    signal: options.signal,
    onProgress: options.onProgress,
  });
  const copy = async () => {
    // One block is written while the next one is gathered.
    const spare = [new Uint8Array(COPY_BYTES), new Uint8Array(COPY_BYTES)];
    let writing = Promise.resolve();
    for await (const block of maker.blocks(() => spare.pop()!)) {
      await writing;
      await maker.room();
      writing = maker.put(block).then(() => void spare.push(block));
      writing.catch((error: Error) => maker.stop(error));
    }
    await writing;
  };
  void maker.run(copy, (made) => {
    expectSame('size', made.size, options.size);
    expectSame('digest', made.digest, options.digest);
  });
  return new Made(maker);
}

class Made implements StreamingBlob {
  readonly times: StreamingBlob['times'];
  readonly #maker: BlobWriter;

  constructor(maker: BlobWriter) {
    this.#maker = maker;
    this.times = maker.times;
  }

  get maxChunk(): number {
    return this.#maker.file.maxChunk;
  }

  get file(): string | undefined {
    return this.#maker.file.isComplete ? this.#maker.file.path : undefined;
  }

  get identity(): BlobIdentity | undefined {
    return this.#maker.growth.identity;
  }

  reach(bytes: number): Promise<Reach> {
    this.#maker.file.want(bytes);
    return this.#maker.growth.reach(bytes);
  }

  completed(): Promise<BlobIdentity> {
    return this.#maker.growth.completed();
  }

  read(start: number, end: number): Readable {
    const { file, name } = this.#maker;
    // Another upload session begins anew, and what it needs is gone: the stream ends with the same error.
    if (start < file.firstByte) this.#maker.lose(new SpoolShortError(name));
    return file.read(start, end);
  }

  confirmed(bytes: number): void {
    const { file, name } = this.#maker;
    if (bytes < file.firstByte) this.#maker.lose(new SpoolShortError(name));
    else file.confirm(bytes);
  }

  async release(keep = false): Promise<void> {
    if (keep && this.identity && this.file) this.#maker.file.keep();
    this.#maker.stop(new LayerError(`${this.#maker.name} is not needed any more`));
    await this.#maker.file.remove();
  }
}

function expectSame<T>(what: string, found: T, expected: T | undefined): void {
  if (expected === undefined || found === expected) return;
  const remedy = 'the image is damaged where it is kept: build, pull or save it again';
  throw new LayerError(`the bytes of a layer have the ${what} ${found}, but the image names ${expected}`, { remedy });
}
