/** One deflate block (RFC 1951, section 3.2.3): with codes of its own, or stored where that is no larger. */
import { align, next, pending, pendingCount, put, resume } from './bits';
import { END_OF_BLOCK, FIRST_LENGTH } from './counts';
import { measureHeader, writeHeader } from './header';
import { buildCodes } from './huffman';
import { BLOCK_COUNTS, CODES, DISTANCES, LENGTH_CODES, LITERALS, SEQUENCES } from './layout';
import { distanceCodeOf, extraCountOf, extraOf, lengthOf, literalsOf } from './sequences';
import {
  DISTANCE_CODE_COUNT,
  distanceExtra,
  LENGTH_CODE_COUNT,
  LONGEST_MATCH,
  lengthBase,
  lengthExtra,
} from './symbols';

const STORED: u64 = 0;
const DYNAMIC: u64 = 2;
/** RFC 1951, section 3.2.4. */
const STORED_BYTES: usize = 65535;

/**
 * Four literals, or a length and a distance with their extra bits, then fit into 64 bits with 7 that are pending; the
 * format allows 15.
 */
const LONGEST_LITERAL_CODE: i32 = 14;
const LONGEST_DISTANCE_CODE: i32 = 15;

/** What gains less than this is stored: no reader should have to decode it (pictures, archives, weights). */
const WORTHWHILE: f32 = 0.98;

const DISTANCE_CODES: usize = CODES + (LITERALS << 2);
const END_CODE: usize = CODES + (END_OF_BLOCK << 2);
const FIRST_LENGTH_CODE: usize = CODES + (FIRST_LENGTH << 2);

/**
 * Writes the first `sequences` sequences, and the literals behind them, as the block [from, end); BLOCK_COUNTS has
 * their counts.
 */
export function writeBlock(from: usize, end: usize, sequences: i32, last: bool): void {
  store<u32>(BLOCK_COUNTS + (END_OF_BLOCK << 2), 1);
  buildCodes(BLOCK_COUNTS, CODES, FIRST_LENGTH + LENGTH_CODE_COUNT, LONGEST_LITERAL_CODE);
  buildCodes(BLOCK_COUNTS + (LITERALS << 2), DISTANCE_CODES, DISTANCE_CODE_COUNT, LONGEST_DISTANCE_CODE);
  const bits = <f32>measureHeader() + <f32>measureSymbols();
  if (bits > <f32>((end - from) << 3) * WORTHWHILE) {
    writeStored(from, end, last);
    return;
  }
  put(last ? 1 : 0, 1);
  put(DYNAMIC, 2);
  writeHeader();
  fillLengthCodes();
  writeSymbols(from, end, sequences);
  const code = load<u32>(END_CODE);
  put(code & 0xffffff, code >> 24);
}

/** Bits of all symbols with their extra bits. */
function measureSymbols(): u32 {
  let bits: u32 = 0;
  for (let symbol = 0; symbol < LITERALS + DISTANCES; symbol++) {
    let each = load<u32>(CODES + ((<usize>symbol) << 2)) >> 24;
    if (symbol >= LITERALS && symbol < LITERALS + DISTANCE_CODE_COUNT) each += distanceExtra(symbol - LITERALS);
    else if (symbol >= FIRST_LENGTH && symbol < FIRST_LENGTH + LENGTH_CODE_COUNT)
      each += lengthExtra(symbol - FIRST_LENGTH);
    bits += load<u32>(BLOCK_COUNTS + ((<usize>symbol) << 2)) * each;
  }
  return bits;
}

function writeStored(from: usize, end: usize, last: bool): void {
  do {
    const size = min(end - from, STORED_BYTES);
    put(last && from + size === end ? 1 : 0, 1);
    put(STORED, 2);
    align();
    put(size | ((size ^ 0xffff) << 16), 32);
    memory.copy(next, from, size);
    resume(next + size, 0, 0);
    from += size;
  } while (from < end);
}

/** For every length its code and extra bits in one: a table look-up for each match. */
function fillLengthCodes(): void {
  for (let code = 0; code < LENGTH_CODE_COUNT; code++) {
    const entry = load<u32>(FIRST_LENGTH_CODE + ((<usize>code) << 2));
    const count = entry >> 24;
    const extra = lengthExtra(code);
    // Code 284 could say 258 as well, which has a code of its own: the last one to write wins.
    for (let value = 0; value < 1 << extra; value++) {
      const length = lengthBase(code) + value;
      if (length > LONGEST_MATCH) break;
      store<u32>(
        LENGTH_CODES + ((<usize>length) << 2),
        (entry & 0xffffff) | ((<u32>value) << count) | ((count + extra) << 24),
      );
    }
  }
}

/**
 * The code of a literal, or nothing when `at` is not below `count`: a mask instead of a branch that cannot be foreseen.
 */
function literalWithin(from: usize, at: i32, count: i32): u32 {
  const below: i32 = at - count;
  return load<u32>(CODES + ((<usize>load<u8>(from + <usize>at)) << 2)) & <u32>(below >> 31);
}

/**
 * The one loop that all output goes through. It keeps the bits in registers, and empties them before 56 can have come
 * together.
 */
function writeSymbols(from: usize, end: usize, sequences: i32): void {
  let to = next;
  let bits = pending;
  let filled = pendingCount;
  for (let i = 0; i < sequences; i++) {
    const sequence = load<u64>(SEQUENCES + ((<usize>i) << 3));
    const literals = literalsOf(sequence);
    for (let k = 0; ; ) {
      let code = literalWithin(from, k, literals);
      bits |= (<u64>(code & 0xffffff)) << filled;
      filled += code >> 24;
      code = literalWithin(from, k + 1, literals);
      bits |= (<u64>(code & 0xffffff)) << filled;
      filled += code >> 24;
      code = literalWithin(from, k + 2, literals);
      bits |= (<u64>(code & 0xffffff)) << filled;
      filled += code >> 24;
      code = literalWithin(from, k + 3, literals);
      bits |= (<u64>(code & 0xffffff)) << filled;
      filled += code >> 24;
      store<u64>(to, bits);
      to += filled >> 3;
      bits >>= <u64>(filled & ~7);
      filled &= 7;
      k += 4;
      if (k >= literals) break;
    }
    const length = lengthOf(sequence);
    let code = load<u32>(LENGTH_CODES + ((<usize>length) << 2));
    bits |= (<u64>(code & 0xffffff)) << filled;
    filled += code >> 24;
    code = load<u32>(DISTANCE_CODES + ((<usize>distanceCodeOf(sequence)) << 2));
    bits |= (<u64>(code & 0xffffff)) << filled;
    filled += code >> 24;
    bits |= extraOf(sequence) << filled;
    filled += extraCountOf(sequence);
    store<u64>(to, bits);
    to += filled >> 3;
    bits >>= <u64>(filled & ~7);
    filled &= 7;
    from += <usize>(literals + length);
  }
  resume(to, bits, filled);
  for (; from < end; from++) {
    const code = load<u32>(CODES + ((<usize>load<u8>(from)) << 2));
    put(code & 0xffffff, code >> 24);
  }
}
