/** The two compressions that a layer may get, and the constants that were measured for each (docs/compressors.md). */

import { constants, crc32, deflateRawSync, zstdCompressSync } from 'node:zlib';
import { createDeflate, type Deflate } from '../../../packages/deflate/deflate.ts';
import { MediaType } from '../../oci/types.ts';

export type Compression = 'gzip' | 'zstd';

interface CompressionFacts {
  /** media-types.md: what a descriptor calls a layer in this compression. */
  readonly mediaType: string;
  readonly defaultLevel: number;
  readonly levels: readonly [lowest: number, highest: number];
  /** Bytes of a layer that are compressed by themselves, as a gzip member or a zstd frame of their own. */
  readonly blockBytes: number;
}

const MIB = 1024 * 1024;

/**
 * Both formats allow members (RFC 1952, section 2.2) and frames (RFC 8878, section 3) side by side: together they are
 * one valid stream.
 */
export const COMPRESSIONS: Readonly<Record<Compression, CompressionFacts>> = {
  gzip: { mediaType: MediaType.ociLayerGzip, defaultLevel: 1, levels: [1, 9], blockBytes: MIB },
  // Levels 20 to 22 are made for windows above 8 MiB: in blocks of 1 MiB they only cost memory.
  zstd: { mediaType: MediaType.ociLayerZstd, defaultLevel: 2, levels: [1, 19], blockBytes: MIB },
};

/** The OCI media type of a layer in this compression. */
export const layerMediaType = (compression: Compression): string => COMPRESSIONS[compression].mediaType;

/**
 * Room for the worst case, in which a block grows: zstd adds up to 1/256 and 64 bytes, stored gzip blocks 5 bytes in
 * 16384.
 */
export const grownBytes = (blockBytes: number): number => blockBytes + Math.ceil(blockBytes / 256) + 1024;

// One block in, one complete gzip member or zstd frame out: what a worker thread does.

/**
 * Compresses `block` into `into` (which has `grownBytes` of room) and returns how many bytes it took. The same block
 * gives the same bytes: gzip's level 1 everywhere, all other levels on processors of one kind, because Node's zlib and
 * zstd choose their code by the processor.
 */
type Codec = (block: Uint8Array, into: Uint8Array) => number;

/** The codec for a compression and level. */
export function codecFor(compression: Compression, level: number): Codec {
  if (compression === 'zstd') return zstdCodec(level);
  return gzipCodec(level === 1 ? createDeflate() : zlibDeflate(level));
}

/**
 * RFC 1952, section 2.3: deflate, no flags, no time, no name, unknown system: nothing that differs between two runs.
 */
const GZIP_HEADER = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff);
const GZIP_TRAILER_BYTES = 8;

/** The checksum is Node's: it uses the processor's own instructions. */
function gzipCodec(deflate: Deflate): Codec {
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
      // One chunk of output instead of many of 16 KiB that must be joined.
      chunkSize: into.length,
    });
    into.set(frame);
    return freed(frame);
  };
}

/**
 * Levels 2 to 9 of gzip: zlib, for those who want smaller layers more than fast pushes. What does not shrink is stored.
 */
function zlibDeflate(level: number): Deflate {
  const fast = createDeflate();
  return (block, into) => {
    // What the fast compressor would store is not worth zlib's time: weights, wheels and pictures cost it as much as
    // text.
    if (block.length > 0 && !shrinks(block, fast)) return fast(block, into);
    const deflated = deflateRawSync(block, { level, chunkSize: into.length });
    into.set(deflated);
    return freed(deflated);
  };
}

/**
 * Several places, since one sample takes a block that is half text for a picture: that cost 2 % in size when it was
 * measured.
 */
const PLACES = 8;
const PLACE_BYTES = 4096;
/** A sample that shrinks by less than this says that its block would not either. */
const WORTHWHILE = 0.98;

/** Used again for every block: buffers that are left to the garbage collector pile up in a thread. */
const sample = new Uint8Array(PLACES * PLACE_BYTES);
const sampleOutput = new Uint8Array(2 * sample.length);

/** Compresses samples from `PLACES` places of the block, evenly apart, and returns whether they become smaller. */
export function shrinks(block: Uint8Array, deflate: Deflate): boolean {
  const sample = sampleOf(block);
  return deflate(sample, sampleOutput) < sample.length * WORTHWHILE;
}

function sampleOf(block: Uint8Array): Uint8Array {
  if (block.length <= sample.length) return block;
  const step = (block.length - PLACE_BYTES) / (PLACES - 1);
  for (let place = 0; place < PLACES; place++) {
    const start = Math.floor(place * step);
    sample.set(block.subarray(start, start + PLACE_BYTES), place * PLACE_BYTES);
  }
  return sample;
}

/**
 * Frees a compressor's output at once and returns how many bytes it had. The garbage collector does not see the size of
 * such buffers: left to it, they cost 65 MB a thread.
 */
function freed(output: Uint8Array): number {
  const { length, buffer } = output;
  // A small one may lie in Node's own pool of buffers, which stays.
  if (buffer.byteLength > Buffer.poolSize) (buffer as ArrayBuffer).transfer(0);
  return length;
}
