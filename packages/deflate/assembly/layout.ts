/**
 * Where everything lies in the module's memory: no allocator, no garbage, one size for ever. All are byte addresses.
 */

/** The largest input, bytes: what the pool passes to a thread at once, and more than any distance can reach back. */
export const INPUT_BYTES: i32 = 1 << 20;
/**
 * A match is at least 4 bytes long, so a block of the layer has at most a quarter as many; a deflate block ends far
 * earlier.
 */
export const MOST_SEQUENCES: i32 = 1 << 15;

/**
 * Entries of a hash table are positions modulo 65536 (u16): 64 KiB a table stays in the caches of two threads on one
 * core.
 */
export const HASH_BITS: i32 = 15;
const TABLE_BYTES: usize = 2 << HASH_BITS;

/** Literal and length codes 0 to 287 (RFC 1951, section 3.2.6), then distance codes 0 to 31: one array of u32. */
export const LITERALS: i32 = 288;
export const DISTANCES: i32 = 32;
export const SYMBOLS_BYTES: usize = 4 * (LITERALS + DISTANCES);

/**
 * The compiler puts its static data (tables of symbols.ts and of log2, some 3 KiB) from 1024 on: all of ours lies
 * above.
 */
export const STATIC_BYTES: usize = 16384;

export const SHORT_TABLE: usize = STATIC_BYTES;
export const LONG_TABLE: usize = SHORT_TABLE + TABLE_BYTES;
export const TABLES_BYTES: usize = 2 * TABLE_BYTES;

/** How often each symbol is in the deflate block that is being gathered, in its newest part, and nowhere. */
export const BLOCK_COUNTS: usize = SHORT_TABLE + TABLES_BYTES;
export const PART_COUNTS: usize = BLOCK_COUNTS + SYMBOLS_BYTES;
export const NO_COUNTS: usize = PART_COUNTS + SYMBOLS_BYTES;

/** Huffman codes: u32, the code's bits (first bit lowest) with their number above bit 24. */
export const CODES: usize = NO_COUNTS + SYMBOLS_BYTES;
/** The same for every length of a match, extra bits included. */
export const LENGTH_CODES: usize = CODES + SYMBOLS_BYTES;
/** log2(1 + i/256), f32. */
export const LOGARITHMS: usize = LENGTH_CODES + 4 * 260;
/** Length to length code, u8; distance to distance code, u8, in two halves (see symbols.ts). */
export const LENGTH_SYMBOLS: usize = LOGARITHMS + 4 * 256;
export const DISTANCE_SYMBOLS: usize = LENGTH_SYMBOLS + 264;

/** Scratch of huffman.ts and of header.ts. */
export const TREE: usize = DISTANCE_SYMBOLS + 512;
export const HEADER: usize = TREE + 8192;

/** u64 each, see sequences.ts. */
export const SEQUENCES: usize = HEADER + 4096;

/**
 * A candidate that turns out to be too far away is compared before that is known: 64 KiB before the input can be read.
 */
export const INPUT: usize = SEQUENCES + 8 * <usize>(MOST_SEQUENCES + 16) + 65536;
/** Comparing and writing go by 8 bytes: a little more than the input can be read. */
export const OUTPUT: usize = INPUT + <usize>INPUT_BYTES + 256;
