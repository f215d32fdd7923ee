/**
 * A layer's tar put together from tar-split and the layer's folder, in blocks. Order and memory are those of a plain
 * read; the files of a block are read side by side, for a layer of 100,000 small files is all waiting otherwise.
 */

import { closeSync, read as readCallback, readSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BLOCK_SIZE, takeBlock } from '../../../blob/blocks.ts';
import { now } from '../../../common/async.ts';
import { type Folder, type OpenedFile, StoreError, storeError } from './folder.ts';

/** Blocks read ahead of the one that is given out: the disk works while the layer is compressed. */
const BLOCKS_AHEAD = 2;
/** Files of one block opened at once. libuv has four threads; a short queue keeps them busy. */
const LANES = 8;
/** Bytes of a file that may be read on the main thread. */
const SMALL_FILE = 64 * 1024;
/**
 * A small file in memory is opened and read in 10 to 20 us; a read that takes longer than this (ms) may come from a
 * disk.
 */
const COLD_READ_MS = 0.2;
/**
 * Slow reads in a row that are taken for a disk's: a single one is only this thread giving way to the others that
 * compress.
 */
const COLD_READS = 3;
/** Small files that other threads read before the main thread tries again. */
const COLD_FILES = 64;

/** A range of a file that belongs in a block. */
interface Fill {
  readonly file: LayerFile;
  readonly position: number;
  readonly length: number;
  /** Where in the block, bytes. */
  readonly at: number;
}

interface Block {
  readonly buffer: Buffer;
  used: number;
  readonly fills: Fill[];
}

/**
 * The bytes of a layer's tar. The caller closes the folder. Throws StoreError for a file that is missing, is not a
 * regular one or has another size; whether the bytes are right only the diffID tells.
 */
export async function* assemble(segments: AsyncIterable<Segment[]>, folder: Folder): AsyncGenerator<Buffer> {
  const open = new Set<LayerFile>();
  const ahead: Promise<Buffer>[] = [];
  const pace = new Pace();
  try {
    for await (const block of blocksOf(segments, folder, open)) {
      const filled = fill(block, pace);
      filled.catch(() => {}); // Seen when its turn comes.
      ahead.push(filled);
      if (ahead.length > BLOCKS_AHEAD) yield await ahead.shift()!;
    }
    while (ahead.length > 0) yield await ahead.shift()!;
  } finally {
    await Promise.allSettled(ahead);
    for (const file of open) file.close();
  }
}

/** Blocks with what is known put in, and with the ranges of files that are to be read into them. */
async function* blocksOf(
  segments: AsyncIterable<Segment[]>,
  folder: Folder,
  open: Set<LayerFile>,
): AsyncGenerator<Block> {
  let block = newBlock();
  for await (const batch of segments) {
    for (const segment of batch) {
      const size = 'bytes' in segment ? segment.bytes.length : segment.size;
      const file = 'bytes' in segment ? undefined : new LayerFile(folder, segment.name, size, open);
      for (let position = 0; position < size; ) {
        const length = Math.min(size - position, BLOCK_SIZE - block.used);
        if ('bytes' in segment) segment.bytes.copy(block.buffer, block.used, position, position + length);
        else block.fills.push({ file: file!, position, length, at: block.used });
        position += length;
        block.used += length;
        if (block.used < BLOCK_SIZE) continue;
        yield block;
        block = newBlock();
      }
    }
  }
  if (block.used > 0) yield block;
}

const newBlock = (): Block => ({ buffer: takeBlock(), used: 0, fills: [] });

/** Reads all that a block still lacks: small files at once while they come from memory, the others some at a time. */
async function fill(block: Block, pace: Pace): Promise<Buffer> {
  await nextTurn(); // What is read at once must not keep sockets and timers waiting for longer than a block.
  const later = block.fills.filter(({ file, at, length }) => {
    if (length > SMALL_FILE || length < file.size || !pace.isWarm()) return true;
    pace.time(() => file.readNow(block.buffer, at));
    return false;
  });
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < later.length) {
      const { file, position, length, at } = later[next++]!;
      await file.read(block.buffer, at, length, position).catch((error) => {
        next = later.length;
        throw error;
      });
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: Math.min(LANES, later.length) }, lane));
  const failure = lanes.find((result) => result.status === 'rejected');
  if (failure) throw failure.reason;
  return block.buffer.subarray(0, block.used);
}

/**
 * Whether small files come from the page cache. A freshly built image does, and then a trip to another thread costs
 * three times the read itself; on a cold disk a read on the main thread would hold up everything else.
 */
class Pace {
  /** Slow reads one after the other. */
  #slow = 0;
  /** Files that the threads are still to read. */
  #coldFiles = 0;

  /** Whether to read the next small file at once. */
  isWarm(): boolean {
    if (this.#coldFiles === 0) return true;
    this.#coldFiles--;
    return false;
  }

  /** Takes the time of a read at once; slow ones send the next files to the threads. */
  time(read: () => void): void {
    const start = now();
    read();
    this.#slow = now() - start > COLD_READ_MS ? this.#slow + 1 : 0;
    if (this.#slow < COLD_READS) return;
    this.#slow = 0;
    this.#coldFiles = COLD_FILES;
  }
}

/** A file of the layer, opened when its first byte is wanted and closed when its last one was read. */
class LayerFile {
  readonly #folder: Folder;
  readonly #name: string;
  readonly size: number;
  readonly #open: Set<LayerFile>;
  #opening: Promise<OpenedFile> | undefined;
  #fd: number | undefined;
  #left: number;

  constructor(folder: Folder, name: string, size: number, open: Set<LayerFile>) {
    this.#folder = folder;
    this.#name = name;
    this.size = size;
    this.#left = size;
    this.#open = open;
  }

  /** Reads exactly `length` bytes from `position` into the buffer. Throws StoreError. */
  async read(buffer: Buffer, at: number, length: number, position: number): Promise<void> {
    this.#opening ??= this.#openIt();
    const { fd } = await this.#opening;
    for (let done = 0; done < length; ) {
      const count = await readSome(fd, buffer, at + done, length - done, position + done).catch((error) => {
        throw storeError(error, this.#path);
      });
      if (count === 0) throw this.#wrongSize(position + done);
      done += count;
    }
    this.#left -= length;
    if (this.#left === 0) this.close();
  }

  /** Reads a small file on this thread. Throws StoreError. */
  readNow(buffer: Buffer, at: number): void {
    const opened = this.#folder.fileNow(this.#name);
    try {
      if (opened.size !== this.size) throw this.#wrongSize(opened.size);
      const count = readSync(opened.fd, buffer, at, this.size, 0);
      if (count !== this.size) throw this.#wrongSize(count);
    } catch (error) {
      throw storeError(error, this.#path);
    } finally {
      closeSync(opened.fd);
    }
  }

  close(): void {
    this.#open.delete(this);
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  async #openIt(): Promise<OpenedFile> {
    const opened = await this.#folder.file(this.#name);
    this.#fd = opened.fd;
    this.#open.add(this);
    if (opened.size !== this.size) throw this.#wrongSize(opened.size);
    return opened;
  }

  get #path(): string {
    return `${this.#folder.path}/${this.#name}`;
  }

  #wrongSize(size: number): StoreError {
    return new StoreError(`${this.#path} has ${size} bytes, the layer's tar had ${this.size}`, { path: this.#path });
  }
}

function readSome(fd: number, buffer: Buffer, at: number, length: number, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    readCallback(fd, buffer, at, length, position, (error, count) => (error ? reject(error) : resolve(count)));
  });
}

/** A segment of a layer's tar: bytes as they are, or the content of a file (bytes long) in the layer's folder. */
export type Segment = { readonly bytes: Buffer } | { readonly name: string; readonly size: number };

/** Entry.Type of tar-split: FileType and SegmentType. */
const FILE = 1;
const SEGMENT = 2;

/**
 * The longest line that is accepted: a segment is a few headers of 512 bytes, seldom more than a long name or many
 * xattrs.
 */
const LONGEST_LINE = 64 * 2 ** 20;

interface Entry {
  readonly type: number;
  readonly name?: string;
  /** Base64 of a name that is not UTF-8. */
  readonly name_raw?: string;
  readonly size?: number;
  /** Base64: a segment's bytes, or a file's CRC-64. */
  readonly payload?: string | null;
}

/**
 * The segments of a layer's tar in order, in batches, from the (uncompressed) bytes of its tar-split file. Names are
 * latin1, a byte a letter. The CRC-64 of a file is not looked at: the diffID covers all of it. Throws StoreError.
 */
export async function* segmentsOf(tarSplit: AsyncIterable<Buffer>): AsyncGenerator<Segment[]> {
  for await (const lines of completeLines(tarSplit)) {
    const segments: Segment[] = [];
    for (const line of lines.split('\n')) {
      const segment = line === '' ? undefined : segmentOf(line);
      if (segment) segments.push(segment);
    }
    yield segments;
  }
}

/** Text that ends where a line ends. */
async function* completeLines(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let rest: Buffer[] = [];
  let restSize = 0;
  for await (const chunk of chunks) {
    const end = chunk.lastIndexOf(10) + 1;
    if (end > 0) {
      yield Buffer.concat([...rest, chunk.subarray(0, end)]).toString('utf8');
      rest = [];
      restSize = 0;
    }
    rest.push(chunk.subarray(end));
    restSize += chunk.length - end;
    if (restSize > LONGEST_LINE) throw new StoreError(`tar-split: a line of more than ${LONGEST_LINE} bytes`);
  }
  if (restSize > 0) yield Buffer.concat(rest).toString('utf8');
}

function segmentOf(line: string): Segment | undefined {
  const entry = parse(line);
  if (entry.type === SEGMENT) return { bytes: Buffer.from(entry.payload ?? '', 'base64') };
  if (entry.type !== FILE) throw new StoreError(`tar-split: an entry of unknown type ${entry.type}`);
  const size = entry.size ?? 0;
  if (!Number.isSafeInteger(size) || size < 0) throw new StoreError(`tar-split: a file of ${size} bytes`);
  if (size === 0) return undefined;
  const name = entry.name_raw ? Buffer.from(entry.name_raw, 'base64') : Buffer.from(entry.name ?? '', 'utf8');
  return { name: name.toString('latin1'), size };
}

function parse(line: string): Entry {
  try {
    return JSON.parse(line) as Entry;
  } catch (cause) {
    throw new StoreError(`tar-split: not JSON: ${line.slice(0, 80)}`, { cause });
  }
}
