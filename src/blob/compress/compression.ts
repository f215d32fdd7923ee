/** The two compressions that a layer may get, and the constants that were measured for each (docs/compressors.md). */

import { deflate } from 'libdeflate';
import { MediaType } from '../../oci/types.ts';
import { freed } from './pool.ts';

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

/** Both formats allow members (RFC 1952, section 2.2) and frames (RFC 8878, section 3) side by side: together they are one valid stream. */
export const COMPRESSIONS: Readonly<Record<Compression, CompressionFacts>> = {
  gzip: { mediaType: MediaType.ociLayerGzip, defaultLevel: 1, levels: [1, 9], blockBytes: MIB },
  zstd: { mediaType: MediaType.ociLayerZstd, defaultLevel: 2, levels: [1, 19], blockBytes: MIB },
};

/** The OCI media type of a layer in this compression. */
export const layerMediaType = (compression: Compression): string => COMPRESSIONS[compression].mediaType;

/** Room for the worst case, in which a block grows: zstd adds up to 1/256 and 64 bytes, stored gzip blocks 5 bytes in 65535. */
export const grownBytes = (blockBytes: number): number => blockBytes + Math.ceil(blockBytes / 256) + 1024;

/** Whether a block is worth compressing: weights, wheels and pictures are not, and cost as much time as text. */

/** Several places, since one sample takes a block that is half text for a picture: that cost 2 % in size when it was measured. */
const PLACES = 8;
const PLACE_BYTES = 4096;
/** A sample that shrinks by less than this says that its block would not either. */
const WORTHWHILE = 0.98;

/** The fastest level: only whether it shrinks counts. */
const LEVEL = 1;

/**
 * Compresses samples from `PLACES` places of the block, evenly apart, and tells whether they become smaller. By libdeflate, which
 * says the same on every machine (Node's zlib does not), so that a layer gets the same bytes everywhere.
 */
export function shrinks(block: Uint8Array): boolean {
  const sample = sampleOf(block);
  return freed(deflate(sample, LEVEL)) < sample.length * WORTHWHILE;
}

/** Used again for every block: buffers that are left to the garbage collector pile up in a thread. */
const sample = new Uint8Array(PLACES * PLACE_BYTES);

function sampleOf(block: Uint8Array): Uint8Array {
  if (block.length <= sample.length) return block;
  const step = (block.length - PLACE_BYTES) / (PLACES - 1);
  for (let place = 0; place < PLACES; place++) {
    const start = Math.floor(place * step);
    sample.set(block.subarray(start, start + PLACE_BYTES), place * PLACE_BYTES);
  }
  return sample;
}
