/** One block in, one complete gzip member or zstd frame out: what a worker thread does. */
import { constants, crc32, zstdCompressSync } from 'node:zlib';
import type { Compression } from './compression.ts';
import { freed } from './freed.ts';

/** Compresses `block` into `into` (which has `grownBytes` of room) and returns how many bytes it took. Same block, same bytes. */
export type Codec = (block: Uint8Array, into: Uint8Array) => number;

/** The codec for a compression and level. */
export async function codecFor(compression: Compression, level: number): Promise<Codec> {
  return compression === 'gzip' ? gzipCodec(await deflateFor(level)) : zstdCodec(level);
}

/** Level 1 is what nearly all use; only what is used is loaded. */
async function deflateFor(level: number): Promise<Codec> {
  if (level === 1) return (await import('./fast-deflate.ts')).fastDeflate();
  return (await import('./small-deflate.ts')).smallDeflate(level);
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
