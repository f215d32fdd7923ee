/** The alphabets of RFC 1951, section 3.2.5: which code a length or a distance has, and how many extra bits. */
import { DISTANCE_SYMBOLS, LENGTH_SYMBOLS } from './layout';

export const LENGTH_CODE_COUNT: i32 = 29;
export const DISTANCE_CODE_COUNT: i32 = 30;
export const LONGEST_MATCH: i32 = 258;
export const FARTHEST: u32 = 32768;

const LENGTH_BASES = memory.data<u16>([
  3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258,
]);
const LENGTH_EXTRAS = memory.data<u8>([
  0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
]);
const DISTANCE_BASES = memory.data<u16>([
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145,
  8193, 12289, 16385, 24577,
]);
const DISTANCE_EXTRAS = memory.data<u8>([
  0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13,
]);

export function lengthBase(code: i32): i32 {
  return <i32>load<u16>(LENGTH_BASES + ((<usize>code) << 1));
}

export function lengthExtra(code: i32): i32 {
  return <i32>load<u8>(LENGTH_EXTRAS + <usize>code);
}

export function distanceBase(code: i32): u32 {
  return <u32>load<u16>(DISTANCE_BASES + ((<usize>code) << 1));
}

export function distanceExtra(code: i32): i32 {
  return <i32>load<u8>(DISTANCE_EXTRAS + <usize>code);
}

/** The length code, from 0, of a length from 3 to 258. */
export function lengthCode(length: i32): i32 {
  return <i32>load<u8>(LENGTH_SYMBOLS + <usize>length);
}

/** The distance code of a distance from 1 to 32768: one entry a distance up to 256, then one for each 128. */
export function distanceCode(distance: u32): i32 {
  const before = <usize>(distance - 1);
  return <i32>load<u8>(DISTANCE_SYMBOLS + (before < 256 ? before : 256 + (before >> 7)));
}

/** Fills the tables; once. */
export function fillSymbols(): void {
  for (let code = 0; code < LENGTH_CODE_COUNT; code++) {
    const next = code + 1 < LENGTH_CODE_COUNT ? lengthBase(code + 1) : LONGEST_MATCH + 1;
    for (let length = lengthBase(code); length < next; length++) {
      store<u8>(LENGTH_SYMBOLS + <usize>length, <u8>code);
    }
  }
  for (let code = 0; code < DISTANCE_CODE_COUNT; code++) {
    const first = <usize>(distanceBase(code) - 1);
    for (let before = first; before < first + (1 << distanceExtra(code)); before++) {
      store<u8>(DISTANCE_SYMBOLS + (before < 256 ? before : 256 + (before >> 7)), <u8>code);
    }
  }
}
