/** Whether a block is worth compressing: weights, wheels and pictures are not, and cost as much time as text. */
import { deflate } from 'libdeflate';
import { freed } from './freed.ts';

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
