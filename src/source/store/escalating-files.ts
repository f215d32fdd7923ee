/**
 * Reads with the rights of this process as long as they suffice, and by the helper from the first refusal on. In Podman's
 * rootless storage that is seldom the first file, but one of another user somewhere in a layer.
 */

import type { Readable } from 'node:stream';
import { blockStream } from '../../blob/blocks.ts';
import type { StoreFiles } from './files/files.ts';
import { StoreError } from './files/folder.ts';

export class EscalatingFiles implements StoreFiles {
  readonly #own: StoreFiles;
  readonly #start: (reason: StoreError) => Promise<StoreFiles>;
  #helper: Promise<StoreFiles> | undefined;
  /** Why there is no helper; it is not asked for again. */
  #refused: StoreError | undefined;

  /** `start` takes the first refusal and returns the helper's files; its StoreError says why there is none. */
  constructor(own: StoreFiles, start: (reason: StoreError) => Promise<StoreFiles>) {
    this.#own = own;
    this.#start = start;
  }

  size(path: string): Promise<number> {
    return this.#read((files) => files.size(path));
  }

  bytes(path: string, end?: number): Promise<Buffer> {
    return this.#read((files) => files.bytes(path, end));
  }

  range(path: string, start = 0, end?: number): Readable {
    return blockStream(this.#bytes((files, skipped) => files.range(path, start + skipped, end)));
  }

  layer(tarSplit: string, folder: string): Readable {
    return blockStream(this.#bytes((files, skipped) => without(files.layer(tarSplit, folder), skipped)));
  }

  async close(): Promise<void> {
    const helper = await this.#helper?.catch(() => undefined);
    await Promise.all([this.#own.close(), helper?.close()]);
  }

  /** One read: by this process, or else by the helper. */
  async #read<T>(read: (files: StoreFiles) => Promise<T>): Promise<T> {
    try {
      if (!this.#helper) return await read(this.#own);
    } catch (error) {
      return read(await this.#escalate(error));
    }
    return read(await this.#helper);
  }

  /** The bytes of a stream, of which the helper reads what this process may not: it skips what was read already. */
  async *#bytes(read: (files: StoreFiles, skipped: number) => AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    let done = 0;
    let helper = this.#helper;
    try {
      if (!helper) {
        for await (const chunk of read(this.#own, 0)) {
          yield chunk;
          done += chunk.length;
        }
      }
    } catch (error) {
      helper = this.#escalate(error);
    }
    if (helper) yield* read(await helper, done);
  }

  /** The helper's files, when that is what an error calls for; else the error is thrown. */
  async #escalate(error: unknown): Promise<StoreFiles> {
    if (!(error instanceof StoreError) || !error.denied) throw error;
    if (this.#refused) throw withoutHelper(error, this.#refused);
    this.#helper ??= this.#start(error);
    try {
      return await this.#helper;
    } catch (cause) {
      this.#helper = undefined;
      this.#refused = cause instanceof StoreError ? cause : new StoreError(String(cause), { cause });
      throw withoutHelper(error, this.#refused);
    }
  }
}

const withoutHelper = ({ message, path, code }: StoreError, refused: StoreError): StoreError =>
  new StoreError(`${message}, and ${refused.message}`, { path, code, cause: refused });

/** A stream without its first bytes. */
async function* without(stream: AsyncIterable<Buffer>, skipped: number): AsyncGenerator<Buffer> {
  let left = skipped;
  for await (const chunk of stream) {
    if (chunk.length > left) yield chunk.subarray(left);
    left = Math.max(0, left - chunk.length);
  }
}
