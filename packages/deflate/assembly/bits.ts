/** The output: bits go in lowest first (RFC 1951, section 3.1.1), bytes come out. */

/** Where the next byte goes. */
export let next: usize = 0;
/** Bits that do not fill a byte yet, and their number: at most 7 between two calls. */
export let pending: u64 = 0;
export let pendingCount: i32 = 0;

/** Goes on from here: for the loop that keeps all three in registers. */
export function resume(at: usize, bits: u64, count: i32): void {
  next = at;
  pending = bits;
  pendingCount = count;
}

/** Writes the lowest `count` bits, at most 56; those above must be 0. */
export function put(bits: u64, count: i32): void {
  pending |= bits << pendingCount;
  pendingCount += count;
  store<u64>(next, pending);
  next += pendingCount >> 3;
  pending >>= <u64>(pendingCount & ~7);
  pendingCount &= 7;
}

/** Fills up the last byte with zeros. */
export function align(): void {
  if (pendingCount > 0) put(0, 8 - pendingCount);
}
