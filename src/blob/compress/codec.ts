/** One block in, one complete gzip member or zstd frame out: what a worker thread does. */

import { readFileSync } from 'node:fs';
import { constants, crc32, zstdCompressSync } from 'node:zlib';
import { deflate } from 'libdeflate';
import { type Compression, shrinks } from './compression.ts';
import { freed } from './pool.ts';

/** Compresses `block` into `into` (which has `grownBytes` of room) and returns how many bytes it took. Same block, same bytes. */
export type Codec = (block: Uint8Array, into: Uint8Array) => number;

/** The codec for a compression and level. */
export async function codecFor(compression: Compression, level: number): Promise<Codec> {
  return compression === 'gzip' ? gzipCodec(await deflateFor(level)) : zstdCodec(level);
}

/** Level 1 is what nearly all use; only what is used is loaded. */
async function deflateFor(level: number): Promise<Codec> {
  if (level === 1) return (await import('./codec.ts')).fastDeflate();
  return (await import('./codec.ts')).smallDeflate(level);
}

/** RFC 1952, section 2.3: deflate, no flags, no time, no name, unknown system: nothing that differs between two runs. */
const GZIP_HEADER = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff);
const GZIP_TRAILER_BYTES = 8;

/** The checksum is Node's: it uses the processor's own instructions. */
function gzipCodec(deflate: Codec): Codec {
  return (block, into) => {
    into.set(GZIP_HEADER);
    const end = GZIP_HEADER.length + deflate(block, into.subarray(GZIP_HEADER.length));
    const trailer = new DataView(into.buffer, into.byteOffset + end, GZIP_TRAILER_BYTES);
    trailer.setUint32(0, crc32(block), true);
    trailer.setUint32(4, block.length, true);
    return end + GZIP_TRAILER_BYTES;
  };
}

/** zstd sees by itself, and fast, what does not shrink, and stores it. */
function zstdCodec(level: number): Codec {
  return (block, into) => {
    const frame = zstdCompressSync(block, {
      params: { [constants.ZSTD_c_compressionLevel]: level },
      pledgedSrcSize: block.length,
      // One piece of output instead of many of 16 KiB that must be joined.
      chunkSize: into.length,
    });
    into.set(frame);
    return freed(frame);
  };
}

/** Level 1 of gzip: the project's own deflate, compiled from deflate/ (AssemblyScript) to WebAssembly when dist is built. */

/** What deflate/index.ts exports. */
interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer };
  input(): number;
  output(): number;
  capacity(): number;
  deflate(size: number): number;
}

/** Node's types leave WebAssembly to the browser's. */
interface WebAssemblyApi {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
}
const { Module, Instance } = (globalThis as unknown as { readonly WebAssembly: WebAssemblyApi }).WebAssembly;

/** The module lies beside the bundle; the source tree uses the one that was built last. */
const MODULE_URL = new URL(
  import.meta.url.endsWith('.ts') ? '../../../dist/deflate.wasm' : './deflate.wasm',
  import.meta.url,
);

/**
 * A compressor: writes `block`, at most 1 MiB, as a deflate stream (RFC 1951) into `into`, and returns how many bytes that took: never
 * more than 1/256 above the block's. What does not shrink is stored. Throws RangeError for a longer block.
 */
export function fastDeflate(): (block: Uint8Array, into: Uint8Array) => number {
  const { exports } = new Instance(new Module(readFileSync(MODULE_URL)));
  const { memory, input, output, capacity, deflate } = exports as Exports;
  // Its memory never grows, so these stay.
  const source = new Uint8Array(memory.buffer, input(), capacity());
  const result = new Uint8Array(memory.buffer, output());
  return (block, into) => {
    source.set(block);
    const size = deflate(block.length);
    into.set(result.subarray(0, size));
    return size;
  };
}

/** Levels 2 to 12 of gzip: libdeflate, for those who want smaller layers more than fast pushes. */

/** Writes `block` as a deflate stream into `into`, and returns how many bytes that took. What does not shrink is stored. */
export function smallDeflate(level: number): (block: Uint8Array, into: Uint8Array) => number {
  return (block, into) => {
    if (block.length > 0 && !shrinks(block)) return putStored(block, into);
    const deflated = deflate(block, level);
    into.set(deflated);
    return freed(deflated);
  };
}

/** RFC 1951, section 3.2.4: a stored block holds at most 65535 bytes behind 5 bytes of header. */
const STORED_BYTES = 0xffff;

function putStored(block: Uint8Array, into: Uint8Array): number {
  const view = new DataView(into.buffer, into.byteOffset);
  let at = 0;
  for (let start = 0; start < block.length; start += STORED_BYTES) {
    const part = block.subarray(start, start + STORED_BYTES);
    view.setUint8(at, start + part.length === block.length ? 1 : 0);
    view.setUint16(at + 1, part.length, true);
    view.setUint16(at + 3, ~part.length & 0xffff, true);
    into.set(part, at + 5);
    at += 5 + part.length;
  }
  return at;
}
