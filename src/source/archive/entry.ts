/** The body of one entry of a tar stream, so that any part of it can be left unread without breaking the stream. */

import { extract, type Header } from 'tar-stream';
import { type FillStream, fillStream, recycleBlock, takeBlock } from '../../blob/blocks.ts';
import { ImageError } from '../../common/error.ts';
import {
  type BlockReader,
  type PaxRecords,
  paxRecords,
  readOldSparseMap,
  type SparseMap,
  sparseNameOf,
} from './sparse.ts';

/** Reads an entry block by block, and skips what is not read of it. */
export class EntryReader {
  /** Bytes. */
  readonly size: number;
  readonly #input: ByteInput;
  /** What was looked at, and is still to be read. */
  #ahead: Buffer = Buffer.alloc(0);
  /** Bytes that the input still has of it. */
  #left: number;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(input: ByteInput, size: number) {
    this.size = size;
    this.#left = size;
    this.#input = input;
  }

  /** The first bytes, as many as asked for or all there are; they stay to be read. */
  async peek(bytes: number): Promise<Buffer> {
    const head = Buffer.alloc(Math.min(bytes, this.size));
    await this.fill(head);
    this.#ahead = head;
    return head;
  }

  /** All that is left, in memory; the caller has looked at the size. */
  async rest(): Promise<Buffer> {
    const bytes = Buffer.alloc(this.#ahead.length + this.#left);
    await this.fill(bytes);
    return bytes;
  }

  /** Reads what is left, drops it, and goes to the end of its last block: the only way past an entry. */
  async drain(): Promise<void> {
    const scratch = takeBlock();
    this.#ahead = Buffer.alloc(0);
    while ((await this.fill(scratch)) > 0);
    const rest = scratch.subarray(0, -this.size & (TAR_BLOCK - 1));
    if ((await this.#input.fill(rest)) < rest.length) throw new Error('it ends in the middle of a file');
    recycleBlock(scratch);
  }

  /**
   * Reads the next bytes into a block; less than fit in only at the end. Throws when the archive ends before the entry
   * does. One at a time: a body that is destroyed while it waits is drained beside its own last read.
   */
  fill(into: Uint8Array): Promise<number> {
    const turn = this.#turn.then(() => this.#fillNow(into));
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** The rest as a stream. `explain` turns what goes wrong into the error that the reader gets. */
  body(explain: (error: unknown) => Promise<Error>): FillStream {
    const fill = async (into: Uint8Array): Promise<number> => {
      try {
        return await this.fill(into);
      } catch (error) {
        throw await explain(error);
      }
    };
    const body = fillStream(fill);
    // One that is not read yet may still be ended with a reason.
    return body.on('error', () => {});
  }

  async #fillNow(into: Uint8Array): Promise<number> {
    const ahead = this.#ahead.subarray(0, into.length);
    into.set(ahead);
    this.#ahead = this.#ahead.subarray(ahead.length);
    const wanted = into.subarray(ahead.length, ahead.length + this.#left);
    const count = wanted.length === 0 ? 0 : await this.#input.fill(wanted);
    this.#left -= count;
    if (count === wanted.length) return ahead.length + count;
    const read = this.size - this.#left;
    throw new ImageError('Archive', `the archive ends after ${read} of ${this.size} bytes of a file`);
  }
}

/**
 * Bytes in their order, read straight into the reader's own memory: what an archive that comes as a stream is read
 * from.
 */
export interface ByteInput {
  /**
   * Reads the next bytes into a block and returns their number: less than fit in only at the end. One call at a time;
   * between two of them the writer has to wait. Rejects when the source breaks off.
   */
  fill(into: Uint8Array): Promise<number>;
  /** Whether nothing more will come: the end was read, or the source is broken or closed. */
  readonly over: boolean;
}

// The headers of a tar file, decoded by tar-stream; the bodies between them go their own ways, without a copy through
// it.

/** A header takes whole blocks, and a body's last one is filled up. Bytes. */
export const TAR_BLOCK = 512;
/** Long names and PAX records come before their header; tar-stream refuses more than 4 MiB of them. */
const MAX_HEADER_BLOCKS = 3 * 8192 + 4;

/**
 * Room for one block, so that it asks for the next when it needs it. Its types leave the other out: very old tar files
 * have no magic.
 */
const OPTIONS = { highWaterMark: 1, allowUnknownFormat: true };

/** One entry of a tar file. */
export interface TarEntry {
  readonly header: Header;
  /** Its name; that of the file itself where GNU tar has put a sparse one under another. */
  readonly name: string;
  /** Whether it is a regular file. */
  readonly isFile: boolean;
  /** Where its body begins. */
  readonly body: number;
  /** Bytes of its body. */
  readonly size: number;
  readonly pax: PaxRecords;
  /** The map of a sparse file in GNU's old format, which lies in the header. */
  readonly sparse?: SparseMap;
}

/**
 * The bytes after a header. A folder has none, whatever its header says: a reader that expects them would never end.
 */
const bodySize = ({ type, size }: Header): number => (type === 'directory' ? 0 : size);

/** Where the next header is. */
export const endOfBody = ({ body, size }: TarEntry): number => body + Math.ceil(size / TAR_BLOCK) * TAR_BLOCK;

/**
 * One entry: its header with the long names and PAX records before it, and where its body begins. Undefined for a block
 * of zeros and at the end. Throws Error for what is no header.
 */
export async function readHeader(blockAt: BlockReader, start: number): Promise<TarEntry | undefined> {
  const first = await blockAt(start);
  if (first.length === 0 || (first.length === TAR_BLOCK && first.every((byte) => byte === 0))) return undefined;
  const decoder = new Decoder();
  const extensions = new Extensions();
  try {
    for (let blocks = 0; blocks < MAX_HEADER_BLOCKS; blocks += 1) {
      const position = start + blocks * TAR_BLOCK;
      const block = blocks === 0 ? first : await blockAt(position);
      if (block.length < TAR_BLOCK) throw new Error(`it is cut off in a header at byte ${position}`);
      extensions.take(block);
      const result = await decoder.take(block);
      if (result && 'error' in result)
        throw new Error(`its header at byte ${position} is not one: ${result.error.message}`, { cause: result.error });
      if (result) return await entryOf(result.header, block, extensions.pax, blockAt, position + TAR_BLOCK);
    }
    throw new Error(`its header at byte ${start} has no end`);
  } finally {
    decoder.end();
  }
}

const typeFlag = (block: Buffer): string => String.fromCharCode(block[156]!);

async function entryOf(
  header: Header,
  block: Buffer,
  pax: PaxRecords,
  blockAt: BlockReader,
  position: number,
): Promise<TarEntry> {
  const common = { header, name: sparseNameOf(pax) ?? header.name, size: bodySize(header), pax };
  const isFile = header.type === 'file' || header.type === 'contiguous-file';
  if (typeFlag(block) !== 'S') return { ...common, isFile, body: position };
  const { map, end } = await readOldSparseMap(block, blockAt, position);
  return { ...common, isFile: true, body: end, sparse: map };
}

/**
 * The PAX records before a header: tar-stream keeps one of several with the same key, and a sparse map may be made of
 * those.
 */
class Extensions {
  readonly #blocks: Buffer[] = [];
  #isPax = false;
  /** Bytes left of an extension's body. */
  #left = 0;

  take(block: Buffer): void {
    if (this.#left > 0) {
      if (this.#isPax) this.#blocks.push(block.subarray(0, this.#left));
      this.#left -= TAR_BLOCK;
      return;
    }
    if (!'xgLK'.includes(typeFlag(block))) return;
    this.#isPax = typeFlag(block) === 'x';
    this.#left = Number.parseInt(block.toString('latin1', 124, 136), 8) || 0;
  }

  get pax(): PaxRecords {
    return paxRecords(Buffer.concat(this.#blocks));
  }
}

type Decoded = { readonly header: Header } | { readonly error: Error } | undefined;

/** tar-stream for one header. */
class Decoder {
  readonly #extract = extract(OPTIONS);
  #resolve: (result: Decoded) => void = () => {};

  constructor() {
    this.#extract.on('entry', (header) => this.#resolve({ header }));
    this.#extract.on('error', (error) => this.#resolve({ error }));
    this.#extract.on('drain', () => this.#resolve(undefined));
  }

  /** Takes a block; undefined when it wants another one. */
  take(block: Buffer): Promise<Decoded> {
    return new Promise((resolve) => {
      this.#resolve = resolve;
      this.#extract.write(block);
    });
  }

  end(): void {
    this.#extract.destroy();
  }
}
