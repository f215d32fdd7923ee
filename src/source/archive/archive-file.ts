/**
 * Archives as files that any part is read of: as they lie on disk, or through a spool, out of a pipe or a compressed
 * file.
 */

import { fstat } from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { posix } from 'node:path';
import { promisify } from 'node:util';
import { asImageError, ImageError } from '../../common/error.ts';
import { NotRegularError } from '../../common/open-regular.ts';
import { MAX_ENTRIES, MAX_LINKS } from '../../oci/documents.ts';
import { cleanName, cleanTarget } from '../choose.ts';
import { blobFormat, decompress, HEAD_BYTES, isCompressed } from '../compression.ts';
import { type Files, type OpenFile, RandomFile } from '../files.ts';
import { endOfBody, readHeader, TAR_BLOCK, type TarEntry } from './entry.ts';
import { type BlockReader, readPaxSparseMap, type SparseMap, sparseStream, storedBytes } from './sparse.ts';
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

// A tar file on disk as a folder of files: its headers are read once, its bodies when they are asked for.

/** Read at once where small files lie side by side; between large ones all but a block of it is wasted. */
const WINDOW = 16 * 1024;

/** A regular file in the archive. */
interface FileMember {
  /** Where its bytes begin in the archive. */
  readonly offset: number;
  /** Bytes, with its holes. */
  readonly size: number;
  readonly sparse?: SparseMap | undefined;
}

type Member = FileMember | { readonly target: string };

/** Reads a tar file's headers. Throws ImageError for one that is broken or made to harm. */
export async function openTarFile(file: RandomFile, description: string): Promise<Files> {
  try {
    return new TarFiles(file, description, await readMembers(file));
  } catch (error) {
    throw asImageError(error, 'Archive', `${description} can't be read`, 'save or download it again');
  }
}

async function readMembers(file: RandomFile): Promise<Map<string, Member>> {
  const members = new Map<string, Member>();
  const readBlock = blockReader(file);
  let count = 0;
  for (let position = 0; position < file.size; ) {
    const entry = await readHeader(readBlock, position);
    if (!entry) break;
    const { body, size } = entry;
    count += 1;
    if (count > MAX_ENTRIES) throw new ImageError('Archive', `it has more than ${MAX_ENTRIES} entries`);
    if (body + size > file.size) {
      throw new ImageError(
        'Archive',
        `it is cut off: ${JSON.stringify(entry.name)} ends ${body + size - file.size} bytes after the file`,
      );
    }
    await addMember(members, entry, readBlock);
    position = endOfBody(entry);
  }
  if (count === 0) throw new ImageError('Archive', 'it has no entries');
  return members;
}

/** Reads single blocks, and asks the disk for a window of them. The last block of a file may be short. */
function blockReader(file: RandomFile): BlockReader {
  let window: Buffer = Buffer.alloc(0);
  let start = 0;
  return async (position) => {
    if (position < start || position + TAR_BLOCK > start + window.length) {
      window = await file.read(position, WINDOW);
      start = position;
    }
    return window.subarray(position - start, position - start + TAR_BLOCK);
  };
}

async function addMember(members: Map<string, Member>, entry: TarEntry, readBlock: BlockReader): Promise<void> {
  const { type, linkname } = entry.header;
  const isLink = type === 'symlink' || type === 'link';
  // Folders, and what tar writes about the archive itself: the label of a volume may be any text.
  if (!isLink && !entry.isFile && type !== 'directory') return;
  const name = cleanName(entry.name);
  if (isLink) members.set(name, { target: cleanTarget(name, type, linkname ?? '') });
  if (!entry.isFile) return;
  if (members.has(name) && /^(index|manifest)\.json$/.test(name))
    throw new ImageError('Archive', `it has ${name} twice`);
  members.set(name, await fileMember(entry, readBlock));
}

async function fileMember(entry: TarEntry, readBlock: BlockReader): Promise<FileMember> {
  const { body, size, pax, sparse } = entry;
  const found = sparse ? { map: sparse, start: body } : await readPaxSparseMap(pax, readBlock, body);
  if (!found) return { offset: body, size };
  const { map, start } = found;
  if (start + storedBytes(map) > body + size) {
    throw new ImageError('Archive', `the sparse file ${JSON.stringify(entry.name)} in it lacks parts of its map`);
  }
  return { offset: start, size: map.size, sparse: map };
}

class TarFiles implements Files {
  readonly description: string;
  readonly #file: RandomFile;
  readonly #members: ReadonlyMap<string, Member>;

  constructor(file: RandomFile, description: string, members: ReadonlyMap<string, Member>) {
    this.#file = file;
    this.description = description;
    this.#members = members;
  }

  async open(path: string): Promise<OpenFile | undefined> {
    const found = this.#resolve(path);
    if (!found) return undefined;
    const { offset, size, sparse } = found;
    const stored = (start: number, end: number) => this.#file.stream(offset + start, offset + end);
    if (!sparse) return { size, read: (start = 0, end = size) => stored(start, Math.min(end, size)) };
    return { size, read: (start = 0, end = size) => sparseStream(sparse, stored, start, Math.min(end, size)) };
  }

  async size(path: string): Promise<number | undefined> {
    return this.#resolve(path)?.size;
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  /** Follows links from file to file, and through a linked folder where a part of the path is one. */
  #resolve(path: string): FileMember | undefined {
    let name = path;
    for (let links = 0; links <= MAX_LINKS; links += 1) {
      const member = this.#members.get(name);
      if (member && 'offset' in member) return member;
      const next = member ? member.target : this.#throughFolder(name);
      if (next === undefined) return undefined;
      name = next;
    }
    throw new ImageError(
      'Archive',
      `${this.description} has links that lead to each other, at ${JSON.stringify(path)}`,
    );
  }

  #throughFolder(name: string): string | undefined {
    for (let slash = name.indexOf('/'); slash > 0; slash = name.indexOf('/', slash + 1)) {
      const member = this.#members.get(name.slice(0, slash));
      if (member && 'target' in member) return posix.join(member.target, name.slice(slash));
    }
    return undefined;
  }
}
