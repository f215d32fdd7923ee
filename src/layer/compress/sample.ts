/** Whether a block is worth compressing: weights, wheels and pictures are not, and cost as much time as text. */
import { constants, deflateRawSync } from 'node:zlib';

/** Several places, since one sample takes a block that is half text for a picture: that cost 2 % in size when it was measured. */
const PLACES = 8;
const PLACE_BYTES = 4096;
/** A sample that shrinks by less than this says that its block would not either. */
const WORTHWHILE = 0.98;

/** Compresses samples from `PLACES` places of the block, evenly apart, and tells whether they become smaller. */
export function shrinks(block: Uint8Array): boolean {
  const sample = sampleOf(block);
  const deflated = deflateRawSync(sample, { level: constants.Z_BEST_SPEED, chunkSize: 2 * PLACES * PLACE_BYTES });
  return deflated.length < sample.length * WORTHWHILE;
}

function sampleOf(block: Uint8Array): Uint8Array {
  if (block.length <= PLACES * PLACE_BYTES) return block;
  const sample = new Uint8Array(PLACES * PLACE_BYTES);
  const step = (block.length - PLACE_BYTES) / (PLACES - 1);
  for (let place = 0; place < PLACES; place++) {
    const start = Math.floor(place * step);
    sample.set(block.subarray(start, start + PLACE_BYTES), place * PLACE_BYTES);
  }
  return sample;
}
