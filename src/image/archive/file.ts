/** A file on disk that any range of is read, for as long as it is open, whatever becomes of its name. */
import { close, fstat, open, read } from 'node:fs';
import { promisify } from 'node:util';
import { type FillStream, openFileStream } from '../../blocks.ts';

const openFile = promisify(open);
const statFile = promisify(fstat);
const closeFile = promisify(close);
const readFile = promisify(read);

export class RandomFile {
  /** Bytes. */
  readonly size: number;
  readonly #fd: number;
  #closed: Promise<void> | undefined;

  private constructor(fd: number, size: number) {
    this.#fd = fd;
    this.size = size;
  }

  /** Opens a regular file. Throws what the system says. */
  static async open(path: string): Promise<RandomFile> {
    const fd = await openFile(path, 'r');
    const stat = await statFile(fd);
    if (stat.isFile()) return new RandomFile(fd, stat.size);
    await closeFile(fd);
    throw new Error('it is not a regular file');
  }

  /** The bytes at a position, fewer where the file ends. */
  async read(position: number, length: number): Promise<Buffer> {
    const buffer = Buffer.alloc(Math.max(0, Math.min(length, this.size - position)));
    let done = 0;
    while (done < buffer.length) {
      const { bytesRead } = await readFile(this.#fd, buffer, done, buffer.length - done, position + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return buffer.subarray(0, done);
  }

  /** The bytes [start, end) as a stream, which fails when the file ends before. */
  stream(start: number, end: number): FillStream {
    return openFileStream(this.#fd, start, end);
  }

  close(): Promise<void> {
    this.#closed ??= closeFile(this.#fd);
    return this.#closed;
  }
}
