/** One upload session: bytes appended to a file on disk, their sha256 made as they come. */
import { createHash, type Hash, randomUUID } from 'node:crypto';
import { type FileHandle, open, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';

/** The client went away, or its connection was cut, before the whole body had come. */
export class BrokenBodyError extends Error {
  override readonly name = 'BrokenBodyError';
}

/** What a broken body leaves behind: the bytes that came, or nothing of them. */
export type AfterBreak = 'kept' | 'undone';

export class Session {
  readonly id: string = randomUUID();
  readonly repository: string;
  readonly file: string;
  /** Bytes that count. */
  size = 0;
  /** The sizes of the PATCHes that were taken, in their order. */
  readonly parts: number[] = [];
  /** Some registries never get a session going again: what befell it. */
  fate: 'open' | 'poisoned' | 'dead' = 'open';
  /** Changes with each change of the session, for registries that put it into the Location. */
  stamp: string = randomUUID();
  /** The last Range that was told, for a registry whose Range sticks. */
  told: string | undefined;
  readonly #lock = new Lock();
  #hash: Hash = createHash('sha256');

  constructor(folder: string, repository: string) {
    this.repository = repository;
    this.file = join(folder, this.id);
  }

  /** Makes the empty file. */
  async create(): Promise<void> {
    await (await open(this.file, 'wx')).close();
  }

  /** The digest of the bytes that count. */
  get digest(): string {
    return `sha256:${this.#hash.copy().digest('hex')}`;
  }

  /** Runs one request that changes the session at a time, in the order of their coming. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.#lock.run(work);
  }

  /** Resolves when no request is changing the session any more, or after so many ms. */
  settled(milliseconds: number): Promise<void> {
    return this.#lock.idle(milliseconds);
  }

  /** Appends a body. Gives its length in bytes. Throws BrokenBodyError after `afterBreak` was done to the session. */
  async append(body: AsyncIterable<Buffer>, afterBreak: AfterBreak): Promise<number> {
    const start = { size: this.size, hash: this.#hash.copy() };
    const handle = await open(this.file, 'a');
    try {
      await this.#write(handle, body, afterBreak === 'kept');
      this.stamp = randomUUID();
      this.size = start.size + this.#written;
      return this.#written;
    } catch (cause) {
      if (afterBreak === 'undone') {
        this.#hash = start.hash;
        this.size = start.size;
        await truncate(this.file, start.size);
      }
      throw new BrokenBodyError('the body ended before its time', { cause });
    } finally {
      await handle.close();
    }
  }

  #written = 0;

  async #write(handle: FileHandle, body: AsyncIterable<Buffer>, countsAtOnce: boolean): Promise<void> {
    this.#written = 0;
    for await (const bytes of body) {
      await handle.writeFile(bytes);
      this.#hash.update(bytes);
      this.#written += bytes.length;
      if (countsAtOnce) this.size += bytes.length;
    }
  }

  /** Takes the file away. */
  async remove(): Promise<void> {
    await rm(this.file, { force: true });
  }
}

/** Lets one piece of work run at a time. */
class Lock {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work);
    this.#last = mine.catch(() => {});
    return mine;
  }

  async idle(milliseconds: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, milliseconds);
    });
    await Promise.race([this.#last, late]);
    clearTimeout(timer);
  }
}
