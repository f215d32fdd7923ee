/** The body of one entry of a tar stream, so that any part of it can be left unread without breaking the stream. */
import { Readable } from 'node:stream';
import { type Extract, extract, type Header } from 'tar-stream';
import { ImageError } from '../error.ts';

/** One entry as tar-stream gives it: its header, and its body as a stream of streamx. */
export type Entry = Extract extends AsyncIterable<infer Source> ? Source : never;

/** tar-stream's options; its types leave this one out. Very old tar files have no magic in their headers. */
const OPTIONS = { allowUnknownFormat: true };

/** The bytes after a header. A folder has none, whatever its header says; waiting for them would be waiting for ever. */
export const bodySize = ({ type, size }: Header): number => (type === 'directory' ? 0 : size);

/** A new parser of a tar stream. `highWaterMark` is in bytes. */
export const tarParser = (highWaterMark?: number): Extract =>
  extract({ ...OPTIONS, ...(highWaterMark === undefined ? {} : { highWaterMark }) });

/** Reads an entry piece by piece. Unlike the entry's own iterator it never destroys the archive behind it. */
export class EntryReader {
  readonly size: number;
  readonly #chunks: AsyncIterator<Buffer>;
  #ahead: Buffer[] = [];
  #read = 0;
  #ended: boolean;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(entry: Entry) {
    this.size = bodySize(entry.header);
    this.#ended = this.size === 0;
    this.#chunks = entry[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  /** The first bytes, as many as asked for or all there are; they stay to be read. */
  async peek(bytes: number): Promise<Buffer> {
    let have = this.#ahead.reduce((sum, chunk) => sum + chunk.length, 0);
    while (have < bytes) {
      const chunk = await this.#pull();
      if (!chunk) break;
      this.#ahead.push(chunk);
      have += chunk.length;
    }
    const head = Buffer.concat(this.#ahead);
    this.#ahead = head.length > 0 ? [head] : [];
    return head.subarray(0, bytes);
  }

  /** All that is left, in memory; the caller has looked at the size. */
  async rest(): Promise<Buffer> {
    const chunks: Buffer[] = [];
    for (let chunk = await this.next(); chunk; chunk = await this.next()) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  /** Reads what is left and drops it: the only way past an entry. */
  async drain(): Promise<void> {
    this.#ahead = [];
    while (await this.#pull());
  }

  /** The next piece; undefined at the end. Throws when the archive ends before the entry does. */
  async next(): Promise<Buffer | undefined> {
    return this.#ahead.shift() ?? (await this.#pull());
  }

  /** The rest as a stream of Node's. `explain` turns what goes wrong into the error that the reader gets. */
  body(explain: (error: unknown) => Promise<Error>): Readable {
    const next = async () => {
      try {
        return await this.next();
      } catch (error) {
        throw await explain(error);
      }
    };
    async function* pieces() {
      for (let chunk = await next(); chunk; chunk = await next()) yield chunk;
    }
    const body = Readable.from(pieces(), { objectMode: false });
    // One that nobody has begun to read may still be ended with a reason.
    return body.on('error', () => {});
  }

  /** One at a time: a body that is destroyed while it waits is drained beside its own last read. */
  #pull(): Promise<Buffer | undefined> {
    const turn = this.#turn.then(() => this.#pullNow());
    this.#turn = turn.catch(() => {});
    return turn;
  }

  async #pullNow(): Promise<Buffer | undefined> {
    if (this.#ended) return undefined;
    const { done, value } = await this.#chunks.next();
    if (!done) {
      this.#read += value.length;
      return value;
    }
    this.#ended = true;
    // A destroyed archive ends its entry without a word.
    if (this.#read < this.size) {
      throw new ImageError('Archive', `the archive ends after ${this.#read} of ${this.size} bytes of a file`);
    }
    return undefined;
  }
}
