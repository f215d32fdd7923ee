/** How often each symbol is in some sequences, and how many bits a perfect code would take for them. */
import { BLOCK_COUNTS, DISTANCES, LITERALS, LOGARITHMS, PART_COUNTS, SEQUENCES, SYMBOLS_BYTES } from './layout';
import { distanceCodeOf, lengthOf, literalsOf } from './sequences';
import { lengthCode } from './symbols';

export const END_OF_BLOCK: i32 = 256;
export const FIRST_LENGTH: i32 = 257;

function count(symbol: i32, times: u32): void {
  const at = PART_COUNTS + ((<usize>symbol) << 2);
  store<u32>(at, load<u32>(at) + times);
}

/**
 * 1 while `at` is below `count`. A sign instead of a branch: how many literals come next is what no processor can
 * foresee.
 */
function within(at: i32, count: i32): u32 {
  const below: i32 = at - count;
  return <u32>below >>> 31;
}

/** Counts the sequences [first, end), the bytes of which begin at `from`, into PART_COUNTS, which is emptied. */
export function countPart(first: i32, end: i32, from: usize): void {
  memory.fill(PART_COUNTS, 0, SYMBOLS_BYTES);
  for (let i = first; i < end; i++) {
    const sequence = load<u64>(SEQUENCES + ((<usize>i) << 3));
    const literals = literalsOf(sequence);
    count(load<u8>(from), within(0, literals));
    count(load<u8>(from, 1), within(1, literals));
    count(load<u8>(from, 2), within(2, literals));
    count(load<u8>(from, 3), within(3, literals));
    for (let k = 4; k < literals; k++) count(load<u8>(from + <usize>k), 1);
    const length = lengthOf(sequence);
    count(FIRST_LENGTH + lengthCode(length), 1);
    count(LITERALS + distanceCodeOf(sequence), 1);
    from += <usize>(literals + length);
  }
}

/** Counts the literals [from, end) into PART_COUNTS, which is emptied. */
export function countLiterals(from: usize, end: usize): void {
  memory.fill(PART_COUNTS, 0, SYMBOLS_BYTES);
  for (; from < end; from++) count(load<u8>(from), 1);
}

/** The part becomes the first of a new block, or one more of this block. */
export function beginBlock(): void {
  memory.copy(BLOCK_COUNTS, PART_COUNTS, SYMBOLS_BYTES);
}

export function joinBlock(): void {
  for (let at: usize = 0; at < SYMBOLS_BYTES; at += 16) {
    v128.store(BLOCK_COUNTS + at, i32x4.add(v128.load(BLOCK_COUNTS + at), v128.load(PART_COUNTS + at)));
  }
}

/**
 * Bits that all symbols counted in `one` and `other` take together, by Shannon's formula; extra bits, which no code
 * changes, left out.
 */
export function entropy(one: usize, other: usize): f32 {
  return entropyOf(one, other, LITERALS) + entropyOf(one + (LITERALS << 2), other + (LITERALS << 2), DISTANCES);
}

function entropyOf(one: usize, other: usize, symbols: usize): f32 {
  let sum: f32 = 0;
  let all: u32 = 0;
  for (let at: usize = 0; at < symbols << 2; at += 4) {
    const times = load<u32>(one + at) + load<u32>(other + at);
    all += times;
    sum += weighted(times);
  }
  return weighted(all) - sum;
}

/** n log2 n: the exponent and a table of 256 mantissas, to a thousandth of a bit. */
function weighted(n: u32): f32 {
  if (n < 2) return 0;
  const exponent = 31 - <i32>clz(n);
  const mantissa = exponent > 8 ? n >> (exponent - 8) : n << (8 - exponent);
  return <f32>n * (<f32>exponent + load<f32>(LOGARITHMS + ((<usize>(mantissa & 255)) << 2)));
}

/** Fills the table; once. */
export function fillLogarithms(): void {
  for (let i = 0; i < 256; i++) store<f32>(LOGARITHMS + ((<usize>i) << 2), <f32>NativeMath.log2(1 + <f64>i / 256));
}
