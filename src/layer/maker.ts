/** What compressing a layer and passing one through have in common: gathered input, a spool file, those who wait, and one way to fail. */
import { createHash } from 'node:crypto';
import { LayerError, layerError } from './errors.ts';
import { Gatherer, type Input } from './gather.ts';
import { Growth, type Identity } from './growth.ts';
import type { SpoolFile } from './spool-file.ts';
import { Times } from './times.ts';

export interface MakerOptions {
  /** What messages call it: "layer sha256:…". */
  readonly name: string;
  readonly signal: AbortSignal;
  readonly onProgress?: ((read: number, written: number) => void) | undefined;
}

export class Maker {
  readonly growth = new Growth();
  readonly times = new Times();
  readonly file: SpoolFile;
  readonly name: string;
  readonly #input: Input;
  readonly #options: MakerOptions;
  readonly #digest = createHash('sha256');
  #read = 0;

  constructor(input: Input, file: SpoolFile, options: MakerOptions) {
    this.#input = input;
    this.file = file;
    this.name = options.name;
    this.#options = options;
    // A stream that breaks while nobody reads it (held back) tells the next reader; without a listener it would end the process.
    input.on('error', () => undefined);
  }

  /** Bytes of the input that were gathered into blocks. */
  get read(): number {
    return this.#read;
  }

  /** Runs the work to its end, whichever that is: the blob is complete and passed its check, or everybody who waits is rejected. */
  async run(work: () => Promise<void>, check: (made: Identity) => void = () => undefined): Promise<void> {
    const { signal } = this.#options;
    const cancel = () => this.stop(layerError(`${this.name} was cancelled`, signal.reason));
    signal.addEventListener('abort', cancel, { once: true });
    if (signal.aborted) cancel();
    try {
      await work();
      await this.file.finish();
      const identity: Identity = { digest: `sha256:${this.#digest.digest('hex')}`, size: this.file.size };
      check(identity);
      this.growth.end(identity);
    } catch (cause) {
      this.stop(layerError(`reading ${this.name}`, cause));
    } finally {
      signal.removeEventListener('abort', cancel);
      this.times.end();
    }
  }

  /** Ends the making with an error (the first one counts) and the input with it. */
  stop(error: Error): void {
    if (this.growth.settled) return;
    this.growth.fail(error);
    this.#input.destroy();
    // Whoever waits for room goes on, and finds that it is over.
    this.file.want(Number.POSITIVE_INFINITY);
  }

  /** The input in blocks as long as those that `take` gives, but for the last one. No empty block. */
  async *blocks(take: () => Uint8Array<ArrayBuffer>): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    const input = new Gatherer(this.#input, this.times);
    try {
      for (let ended = false; !ended; ) {
        const block = take();
        const filled = await input.fill(block);
        ended = filled < block.length;
        if (filled > 0) yield this.#gathered(ended ? block.subarray(0, filled) : block);
      }
    } finally {
      await input.end();
    }
  }

  /** Resolves when the spool has room for more. */
  async room(): Promise<void> {
    await this.times.heldBack(this.file.room());
    if (this.growth.settled) throw new LayerError(`${this.name} was given up`);
  }

  /** The next bytes of the blob: to the file, to the digest, to those who wait. */
  async put(bytes: Uint8Array): Promise<void> {
    const written = this.file.append(bytes);
    // While the disk writes.
    this.#digest.update(bytes);
    await written;
    this.growth.grow(this.file.size);
    this.#options.onProgress?.(this.#read, this.file.size);
  }

  #gathered(block: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    this.#read += block.length;
    this.#options.onProgress?.(this.#read, this.file.size);
    return block;
  }
}
