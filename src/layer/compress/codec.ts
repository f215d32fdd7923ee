/** One block in, one complete gzip member or zstd frame out: what a worker thread does. */
import { constants, crc32, zstdCompressSync } from 'node:zlib';
import { deflate } from 'libdeflate';
import type { Compression } from './compression.ts';
import { freed } from './freed.ts';
import { shrinks } from './sample.ts';

/** Compresses `block` into `into` (which has `grownBytes` of room) and returns how many bytes it took. Same block, same bytes. */
export type Codec = (block: Uint8Array, into: Uint8Array) => number;

/** The codec for a compression and level. */
export function codecFor(compression: Compression, level: number): Codec {
  return compression === 'gzip' ? gzipCodec(level) : zstdCodec(level);
}

/** RFC 1952, section 2.3: deflate, no flags, no time, no name, unknown system: nothing that differs between two runs. */
const GZIP_HEADER = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff);
const GZIP_TRAILER_BYTES = 8;

/** The checksum is Node's (it uses the processor's own instructions), the deflate stream libdeflate's. */
function gzipCodec(level: number): Codec {
  return (block, into) => {
    into.set(GZIP_HEADER);
    const end = GZIP_HEADER.length + putDeflated(block, into.subarray(GZIP_HEADER.length), level);
    const trailer = new DataView(into.buffer, into.byteOffset + end, GZIP_TRAILER_BYTES);
    trailer.setUint32(0, crc32(block), true);
    trailer.setUint32(4, block.length, true);
    return end + GZIP_TRAILER_BYTES;
  };
}

function putDeflated(block: Uint8Array, into: Uint8Array, level: number): number {
  if (block.length > 0 && !shrinks(block)) return putStored(block, into);
  const deflated = deflate(block, level);
  into.set(deflated);
  return freed(deflated);
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
