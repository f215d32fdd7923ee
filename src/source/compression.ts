/**
 * How content is packed: told by its first bytes, never by its name, its media type or its maker; and its unpacking.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress, type Gunzip, type ZstdDecompress } from 'node:zlib';
import type { BlobFormat } from '../blob/blob.ts';
import { ImageError, messageOf } from '../oci/error.ts';

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

/** Content that is read from any offset on. */
export interface Packed {
  /** Bytes. */
  readonly size: number;
  read(start?: number, end?: number): Readable;
}

/**
 * The decompressed bytes of content in this format. Throws an Error for damaged content, and an ImageError where the
 * machine has no tool for xz or bzip2. Ending the iteration ends everything behind it.
 */
export function decompress(packed: Packed, format: Compression): AsyncGenerator<Buffer> {
  if (format === 'gzip') return decoded(packed.read(), createGunzip(DECODER_OPTIONS));
  if (format === 'zstd') return unzstd(packed);
  return throughTool(packed, format);
}

/** Large pieces: each costs a turn of the event loop. Bytes. */
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
/** RFC 8878, 3.1.2: a magic number, and the length of what is to be skipped. Bytes. */
const SKIPPABLE_HEADER = 8;

const isSkippable = (magic: number): boolean => (magic & 0xfffffff0) >>> 0 === 0x184d2a50;

/**
 * Node's decoder ends with the first frame (24.x), and for one that is skipped it returns nothing: frames are read one
 * by one.
 */
async function* unzstd(packed: Packed): AsyncGenerator<Buffer> {
  for (let position = 0; position < packed.size; ) {
    const head = await bytesOf(packed.read(position, Math.min(position + SKIPPABLE_HEADER, packed.size)));
    if (head.length === SKIPPABLE_HEADER && isSkippable(head.readUInt32LE(0))) {
      position += SKIPPABLE_HEADER + head.readUInt32LE(4);
      if (position > packed.size) throw new Error('it ends in the middle of a skippable frame');
      continue;
    }
    const decoder = createZstdDecompress(DECODER_OPTIONS);
    yield* decoded(packed.read(position), decoder);
    if (decoder.bytesWritten === 0) throw new Error('a frame has no bytes');
    position += decoder.bytesWritten;
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

async function* throughTool(packed: Packed, format: 'xz' | 'bzip2'): AsyncGenerator<Buffer> {
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
  const input = packed.read();
  let broken: unknown;
  const feeding = pipeline(input, child.stdin).catch((error: NodeJS.ErrnoException) => {
    // A tool that refuses its input closes it: its own words say more.
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

async function bytesOf(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
