/**
 * How content is packed: told by its first bytes, never by its name, its media type or its maker; and its unpacking.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress, type Gunzip, type ZstdDecompress } from 'node:zlib';
import type { BlobFormat } from '../blob/blob.ts';
import { ImageError, messageOf } from '../common/error.ts';

/** Bytes that tell every format: one tar header. */
export const HEAD_BYTES = 512;

const MAGIC_OFFSET = 257;

/** The formats that decompress to something. */
export type Compression = Exclude<BlobFormat, 'tar' | 'other'>;

/**
 * The format of content from its first HEAD_BYTES (all there are, if fewer). `ustar` at 257 is POSIX.1-2017 pax, "ustar
 * Header Block"; older tars and volume labels (tar -V) have a checksum and no magic. gzip: RFC 1952. zstd: RFC 8878;
 * frames to be skipped may come first (pzstd writes one before each frame).
 */
export function blobFormat(head: Buffer): BlobFormat {
  if (head[0] === 0x1f && head[1] === 0x8b) return 'gzip';
  if (head.length >= 4 && (head.readUInt32LE(0) === ZSTD_MAGIC || isSkippable(head.readUInt32LE(0)))) return 'zstd';
  if (head.subarray(0, 6).equals(XZ_MAGIC)) return 'xz';
  if (/^BZh[1-9](1AY&SY|\x17rE8P\x90)/.test(head.toString('latin1', 0, 10))) return 'bzip2';
  if (head.toString('latin1', MAGIC_OFFSET, MAGIC_OFFSET + 5) === 'ustar' || hasTarChecksum(head)) return 'tar';
  // A layer without a file is nothing but the end-of-archive mark.
  return head.length >= HEAD_BYTES && head.every((byte) => byte === 0) ? 'tar' : 'other';
}

/** The sum of all bytes of a tar header, those of the sum itself (8 at 148) taken as spaces. */
function hasTarChecksum(head: Buffer): boolean {
  const written = /^ *([0-7]+)[ \0]/.exec(head.toString('latin1', 148, 156))?.[1];
  if (head.length < HEAD_BYTES || written === undefined) return false;
  const sum = head.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 0x20 : byte), 0);
  return sum === Number.parseInt(written, 8);
}

/** Whether a format is that of compressed content. */
export const isCompressed = (format: BlobFormat): format is Compression => format !== 'tar' && format !== 'other';

/** Whether bytes look like a JSON object or list. */
export function looksLikeJson(head: Buffer): boolean {
  const first = head.find((byte) => byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09);
  return first === 0x7b || first === 0x5b;
}

/**
 * The decompressed bytes of content in this format. Throws an Error for damaged content, and an ImageError where the
 * machine has no tool for xz or bzip2. Ending the iteration ends everything behind it.
 */
export function decompress(input: Readable, format: Compression): AsyncGenerator<Buffer> {
  if (format === 'gzip') return decoded(input, createGunzip(DECODER_OPTIONS));
  return format === 'zstd' ? unzstd(input) : throughTool(input, format);
}

/** The decompressed bytes of content in a format that its first bytes tell; those of a plain tar as they are. */
export async function* decompressAny(input: Readable): AsyncGenerator<Buffer> {
  const bytes = new Bytes(input);
  try {
    const head = await bytes.next(HEAD_BYTES);
    const format = blobFormat(head);
    const all = Readable.from(bytes.all(head), { objectMode: false });
    yield* isCompressed(format) ? decompress(all, format) : (all as AsyncIterable<Buffer>);
  } finally {
    input.destroy();
  }
}

/** Large chunks: each costs a turn of the event loop. Bytes. */
const DECODER_OPTIONS = { chunkSize: 256 * 1024 };

async function* decoded(input: Readable, decoder: Gunzip | ZstdDecompress): AsyncGenerator<Buffer> {
  // The error of a source that breaks off reaches the reader; one of a source that is ended below does not matter.
  input.on('error', (error) => decoder.destroy(error));
  try {
    yield* input.pipe(decoder) as AsyncIterable<Buffer>;
  } finally {
    input.destroy();
    decoder.destroy();
  }
}

const ZSTD_MAGIC = 0xfd2fb528;

const isSkippable = (magic: number): boolean => (magic & 0xfffffff0) >>> 0 === 0x184d2a50;

/**
 * Node's decoder ends with the first frame (24.x), and for one that is skipped it returns nothing: frames are told
 * apart here, and each has a decoder of its own.
 */
async function* unzstd(input: Readable): AsyncGenerator<Buffer> {
  const bytes = new Bytes(input);
  try {
    for (let magic = await bytes.next(4); magic.length > 0; magic = await bytes.next(4)) {
      if (magic.length < 4) throw endsIn('a frame');
      if (isSkippable(magic.readUInt32LE(0))) await skip(bytes);
      else yield* decoded(Readable.from(frame(magic, bytes)), createZstdDecompress(DECODER_OPTIONS));
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ZSTD_error_frameParameter_windowTooLarge') throw error;
    throw new ImageError('Archive', 'zstd content has a window of more than 128 MiB, which is not taken', {
      remedy: 'compress it again with a smaller window (zstd --long=27 or less)',
      cause: error,
    });
  } finally {
    input.destroy();
  }
}

async function skip(bytes: Bytes): Promise<void> {
  const what = 'a skippable frame';
  const length = (await bytes.exactly(4, what)).readUInt32LE(0);
  for (let left = length; left > 0; left -= SKIPPED_AT_ONCE) await bytes.exactly(Math.min(left, SKIPPED_AT_ONCE), what);
}

const SKIPPED_AT_ONCE = 64 * 1024;

/** One frame, block by block: what follows it is not read. RFC 8878, 3.1.1. */
async function* frame(magic: Buffer, bytes: Bytes): AsyncGenerator<Buffer> {
  const descriptor = await bytes.exactly(1);
  const flags = descriptor[0]!;
  const isSingle = (flags & 0x20) !== 0;
  const windowBytes = isSingle ? 0 : 1;
  const dictionaryBytes = [0, 1, 2, 4][flags & 3]!;
  const sizeBytes = [isSingle ? 1 : 0, 2, 4, 8][flags >> 6]!;
  yield Buffer.concat([magic, descriptor, await bytes.exactly(windowBytes + dictionaryBytes + sizeBytes)]);
  for (let isLast = false; !isLast; ) {
    const header = await bytes.exactly(3);
    const word = header.readUIntLE(0, 3);
    isLast = (word & 1) === 1;
    const isRepeated = ((word >> 1) & 3) === 1;
    yield Buffer.concat([header, await bytes.exactly(isRepeated ? 1 : word >> 3)]);
  }
  if ((flags & 4) !== 0) yield await bytes.exactly(4);
}

const endsIn = (where: string): Error => new Error(`it ends in the middle of ${where}`);

/** The bytes of a stream in the lengths that are asked for. */
class Bytes {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(input: Readable) {
    this.#chunks = (input as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  }

  /** The next bytes: fewer only at the end of the stream. */
  async next(length: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let left = length; left > 0; left -= parts.at(-1)!.length) {
      if (this.#rest.length === 0 && !(await this.#hasMore())) break;
      parts.push(this.#rest.subarray(0, left));
      this.#rest = this.#rest.subarray(left);
    }
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  }

  /** Throws an Error where the stream ends before. */
  async exactly(length: number, where = 'a frame'): Promise<Buffer> {
    const bytes = await this.next(length);
    if (bytes.length < length) throw endsIn(where);
    return bytes;
  }

  /** These bytes, and after them all that are left. */
  async *all(first: Buffer): AsyncGenerator<Buffer> {
    yield first;
    if (this.#rest.length > 0) yield this.#rest;
    while (await this.#hasMore()) yield this.#rest;
  }

  async #hasMore(): Promise<boolean> {
    const { done, value } = await this.#chunks.next();
    if (!done) this.#rest = value;
    return !done;
  }
}

const XZ_MAGIC = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]);

/**
 * `docker load` runs the same tools for xz (moby, pkg/archive). Memory is bounded: xz -9 needs 65 MiB, a hostile file
 * asks for 4 GiB.
 */
const TOOLS = {
  xz: { command: 'xz', args: ['-dcq', '--memlimit-decompress=512MiB'], package: 'xz-utils' },
  bzip2: { command: 'bzip2', args: ['-dcq'], package: 'bzip2' },
} as const;

/** Of what a tool complains, bytes. */
const MAX_COMPLAINT = 1000;

async function* throughTool(input: Readable, format: 'xz' | 'bzip2'): AsyncGenerator<Buffer> {
  const { command, args, package: name } = TOOLS[format];
  // Nothing of this process's environment but the way to the tool: it holds secrets.
  const child = spawn(command, args, { env: { PATH: process.env.PATH, LC_ALL: 'C' }, stdio: 'pipe' });
  let complaint = '';
  child.stderr.on('data', (text: Buffer) => {
    if (complaint.length < MAX_COMPLAINT) complaint += text.toString('utf8');
  });
  // Rejects for a tool that is not there.
  const ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  ended.catch(() => {});
  let broken: unknown;
  const feeding = pipeline(input, child.stdin).catch((error: NodeJS.ErrnoException) => {
    // A tool that refuses its input closes it: its own message says more.
    if (error.code !== 'EPIPE' && error.code !== 'ERR_STREAM_PREMATURE_CLOSE') broken = error;
  });
  try {
    yield* child.stdout as AsyncIterable<Buffer>;
    const [code, signal] = await ended;
    await feeding;
    if (broken !== undefined) throw broken;
    if (code !== 0) throw new Error(complaint.trim() || `${command} ended with ${signal ?? `exit code ${code}`}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new ImageError('Archive', `${format} is decompressed by the program ${command}: ${messageOf(error)}`, {
      remedy: `install ${command} (the package ${name}), or compress with gzip or zstd`,
      cause: error,
    });
  } finally {
    input.destroy();
    child.kill('SIGKILL');
  }
}
