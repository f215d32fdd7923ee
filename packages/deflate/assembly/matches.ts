/**
 * Candidates for a match come from the last position with the same 8 bytes and the last one with the same 4 (the way of
 * zstd's "double fast"), and a short match is given up where a longer one begins a byte later. It finds what chains of
 * positions find but for 2 %, in half the time: no look-up depends on the one before.
 *
 * The three functions of the search are compiled into its loop: as calls they take 9 % longer. (Biome does not know
 * decorators of functions, so biome.json leaves out this file.)
 */
import { addSequence } from './blocks';
import { HASH_BITS, INPUT, LONG_TABLE, SHORT_TABLE, TABLES_BYTES } from './layout';
import { FARTHEST, LONGEST_MATCH } from './symbols';

/** Knuth's and zstd's odd numbers near the golden ratio of 32 and of 64 bits. */
const SHORT_PRIME: u32 = 0x9e3779b1;
const LONG_PRIME: u64 = ((<u64>0xcf1bbcdc) << 32) | 0xb7a56463;

/** A match that is as long as this is taken without a look at the next byte. */
const GOOD_MATCH: u64 = (<u64>12) << 32;
/**
 * Without a match for this many bytes (a power of two) the search begins to take longer steps: what does not shrink goes
 * by fast.
 */
const PATIENCE: i32 = 8;
/** Steps stay short enough to find, soon after it begins, what shrinks again. */
const LONGEST_STEP: usize = 32;
/**
 * Of a longer match only this many positions at each end are remembered: zeros by the megabyte are one match after the
 * other.
 */
const REMEMBERED: usize = 48;
/** Bytes that are left to the literals: hashing reads 8, and looks one further. */
const MARGIN: usize = 16;

function shortSlot(bytes: u64): usize {
  return SHORT_TABLE + ((<usize>((<u32>bytes * SHORT_PRIME) >> (32 - HASH_BITS))) << 1);
}

function longSlot(bytes: u64): usize {
  return LONG_TABLE + ((<usize>((bytes * LONG_PRIME) >> (64 - HASH_BITS))) << 1);
}

function inReach(distance: u32): bool {
  return distance - 1 < FARTHEST;
}

/** How many bytes at `at` and `candidate` are the same, of which `length` are known to be. */
// @ts-ignore: AssemblyScript has decorators for functions.
@inline
function matchLength(at: usize, candidate: usize, length: i32, end: usize): i32 {
  const most = <i32>min<usize>(end - at, LONGEST_MATCH);
  for (; length < most; length += 8) {
    const difference = load<u64>(at + <usize>length) ^ load<u64>(candidate + <usize>length);
    if (difference !== 0) return min(length + <i32>(ctz(difference) >> 3), most);
  }
  return most;
}

function remember(at: usize): void {
  const bytes = load<u64>(at);
  store<u16>(shortSlot(bytes), <u16>(at - INPUT));
  store<u16>(longSlot(bytes), <u16>(at - INPUT));
}

function rememberMatch(from: usize, end: usize): void {
  if (end - from > 2 * REMEMBERED) {
    for (let at = from; at < from + REMEMBERED; at++) remember(at);
    from = end - REMEMBERED;
  }
  for (let at = from; at < end; at++) remember(at);
}

/**
 * The better candidate for `at`, as length << 32 | distance, or 0. Remembers the position. The bytes are compared
 * before the distance is, which is wrong less often: a wrong one points into memory that can be read, and may have the
 * same bytes as well.
 */
// @ts-ignore: AssemblyScript has decorators for functions.
@inline
function matchAt(at: usize, end: usize): u64 {
  const bytes = load<u64>(at);
  const position = <u32>(at - INPUT);
  const short = shortSlot(bytes);
  const long = longSlot(bytes);
  const longDistance = (position - load<u16>(long)) & 0xffff;
  const shortDistance = (position - load<u16>(short)) & 0xffff;
  store<u16>(short, <u16>position);
  store<u16>(long, <u16>position);
  if (load<u64>(at - longDistance) === bytes && inReach(longDistance)) {
    return ((<u64>matchLength(at, at - longDistance, 8, end)) << 32) | longDistance;
  }
  if (load<u32>(at - shortDistance) === <u32>bytes && inReach(shortDistance)) {
    return ((<u64>matchLength(at, at - shortDistance, 4, end)) << 32) | shortDistance;
  }
  return 0;
}

/**
 * How many bytes before `at` belong to the match too: steps were longer than a byte, or a hash was taken by another
 * position.
 */
// @ts-ignore: AssemblyScript has decorators for functions.
@inline
function matchedBefore(at: usize, distance: u32, anchor: usize, most: i32): i32 {
  const first = max(anchor, INPUT + distance);
  let length = 0;
  while (at - length > first && length < most && load<u8>(at - length - 1) === load<u8>(at - length - 1 - distance)) {
    length++;
  }
  return length;
}

/** Takes the input up to `end` apart into sequences. Returns where the last match ends: literals follow. */
export function findMatches(end: usize): usize {
  memory.fill(SHORT_TABLE, 0, TABLES_BYTES);
  const limit = end - MARGIN;
  /** Behind the last match. */
  let anchor = INPUT;
  // The tables are filled with 0, so the first position is in them.
  for (let at = INPUT + 1; at < limit; ) {
    let match = matchAt(at, end);
    if (match === 0) {
      at += min<usize>(1 + ((at - anchor) >> PATIENCE), LONGEST_STEP);
      continue;
    }
    if (match < GOOD_MATCH) {
      const later = matchAt(at + 1, end);
      if (later >> 32 > match >> 32) {
        match = later;
        at++;
      }
    }
    let length = <i32>(match >> 32);
    const distance = <u32>match;
    const before = matchedBefore(at, distance, anchor, LONGEST_MATCH - length);
    at -= before;
    length += before;
    const after = at + <usize>length;
    addSequence(anchor, <u32>(at - anchor), length, distance, after);
    if (after < limit) rememberMatch(at + 1, after);
    at = after;
    anchor = after;
  }
  return anchor;
}
