/**
 * Archives as files that any part is read of: as they lie on disk, or through a spool, out of a pipe or a compressed
 * file.
 */

import { fstat } from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { promisify } from 'node:util';
import { NotRegularError } from '../../common/open-regular.ts';
import { asImageError, ImageError } from '../../oci/error.ts';
import { blobFormat, decompress, HEAD_BYTES, isCompressed } from '../compression.ts';
import { RandomFile } from '../files.ts';
import { spoolArchive, spoolBytes } from './spool.ts';

const statFile = promisify(fstat);

export interface ArchiveOptions {
  /** Where the content of a pipe or a compressed archive is put; the system's folder for temporary files without it. */
  readonly tempDir?: string | undefined;
  readonly signal: AbortSignal;
}

/**
 * One archive that may be opened several times. `-` and `/dev/stdin` mean standard input, `/dev/fd/N` what a shell has
 * opened.
 */
export class ArchiveFile {
  readonly #path: string;
  readonly #description: string;
  /** What came out of the pipe: it can be read only once, and is kept for as long as this process lives. */
  #piped: RandomFile | undefined;

  constructor(path: string, description: string) {
    this.#path = path === '-' ? '/dev/stdin' : path;
    this.#description = description;
  }

  /**
   * Opens the archive; its compression is told by its first bytes. The name of a spool file is gone before this
   * returns, so its room on the disk is free again whatever happens to this process. Throws ImageError.
   */
  async open(options: ArchiveOptions): Promise<RandomFile> {
    const pipe = this.#piped ? undefined : await pipeAt(this.#path);
    if (pipe !== undefined) this.#piped = await this.#readPipe(pipe, options);
    return this.#piped ? this.#piped.shared() : this.#unpacked(await this.#openRegular(), options);
  }

  async #openRegular(): Promise<RandomFile> {
    try {
      return await RandomFile.open(this.#path);
    } catch (error) {
      const remedy =
        error instanceof NotRegularError ? 'give a file, or pipe an archive into docker-archive:-' : 'check the path';
      throw asImageError(error, 'Archive', `${this.#description} can't be opened`, remedy);
    }
  }

  /** A pipe is read to its end: layers may come before the list that explains them, and a push may need them again. */
  async #readPipe(fd: number, options: ArchiveOptions): Promise<RandomFile> {
    const { tempDir = tmpdir(), signal } = options;
    const socket = new Socket({ fd, readable: true, writable: false });
    const spool = { description: this.#description, failure: "can't be read", tempDir, signal };
    const abort = (): unknown => socket.destroy(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    try {
      const chunks = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
      const { head, rest } = await peek(chunks, HEAD_BYTES);
      const format = blobFormat(head);
      if (format === 'tar') return await spoolArchive(rest, spool);
      if (!isCompressed(format)) throw this.#noArchive(head.length === 0);
      return await this.#unpacked(await spoolBytes(rest, spool), options);
    } catch (error) {
      signal.throwIfAborted();
      throw asImageError(error, 'Archive', `${this.#description} can't be read`);
    } finally {
      signal.removeEventListener('abort', abort);
      socket.destroy();
    }
  }

  /** The archive in a file, which is closed if it is another one. */
  async #unpacked(file: RandomFile, { tempDir = tmpdir(), signal }: ArchiveOptions): Promise<RandomFile> {
    const format = blobFormat(await file.read(0, HEAD_BYTES));
    if (format === 'tar') return file;
    try {
      if (!isCompressed(format)) throw this.#noArchive(file.size === 0);
      const { size } = file;
      const failure = `can't be decompressed (${format})`;
      const options = { description: this.#description, failure, tempDir, packedSize: size, signal };
      return await spoolArchive(decompress(file.stream(0, size), format), options);
    } finally {
      await file.close();
    }
  }

  #noArchive(isEmpty: boolean): ImageError {
    const what = isEmpty ? 'is empty' : 'is neither a tar file nor one compressed with gzip, zstd, xz or bzip2';
    return new ImageError('Archive', `${this.#description} ${what}`, {
      remedy: 'give the file that docker save, podman save, skopeo or buildx wrote',
    });
  }
}

/** The descriptor that a path means, if it is that of a pipe or socket which this process was given. */
async function pipeAt(path: string): Promise<number | undefined> {
  const fd = path === '/dev/stdin' ? 0 : Number(/^(?:\/dev|\/proc\/self)\/fd\/(\d+)$/.exec(path)?.[1] ?? Number.NaN);
  if (Number.isNaN(fd)) return undefined;
  const stats = await statFile(fd).catch(() => undefined);
  return stats?.isFIFO() || stats?.isSocket() ? fd : undefined;
}

/** The first bytes, and all bytes from the first on. */
async function peek(
  chunks: AsyncIterator<Buffer>,
  bytes: number,
): Promise<{ head: Buffer; rest: AsyncIterable<Buffer> }> {
  let head: Buffer = Buffer.alloc(0);
  while (head.length < bytes) {
    const { done, value } = await chunks.next();
    if (done) break;
    head = Buffer.concat([head, value]);
  }
  async function* all(): AsyncGenerator<Buffer> {
    yield head;
    yield* { [Symbol.asyncIterator]: () => chunks };
  }
  return { head, rest: all() };
}
