/** Levels 2 to 12 of gzip: libdeflate, for those who want smaller layers more than fast pushes. */
import { deflate } from 'libdeflate';
import { freed } from './freed.ts';
import { shrinks } from './sample.ts';

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
