/**
 * Where one deflate block ends and the next begins: each pays for its codes, and different data is better off with
 * codes of its own.
 */
import { writeBlock } from './block';
import { beginBlock, countLiterals, countPart, entropy, joinBlock } from './counts';
import { BLOCK_COUNTS, INPUT, MOST_SEQUENCES, NO_COUNTS, PART_COUNTS, SEQUENCES, SYMBOLS_BYTES } from './layout';
import { putSequence } from './sequences';

/**
 * Parts are measured one by one; where one differs from the block before it by more than a header costs, a new block
 * begins.
 */
const PART_SEQUENCES: i32 = 1500;
const PART_BYTES: usize = 65536;
/** This many literals in a row are another kind of data than the sequences before them. */
const PART_LITERALS: u32 = 1024;
const HEADER_BITS: f32 = 800;

/**
 * The deflate block that is being gathered: its sequences, of which the first `measured` are counted in BLOCK_COUNTS.
 */
let blockFrom: usize = 0;
let sequences: i32 = 0;
let measured: i32 = 0;
let partFrom: usize = 0;
let blockBits: f32 = 0;

/** Begins with the input. */
export function startBlocks(): void {
  blockFrom = INPUT;
  partFrom = INPUT;
  sequences = 0;
  measured = 0;
  blockBits = 0;
  memory.fill(BLOCK_COUNTS, 0, SYMBOLS_BYTES);
}

/** One more sequence: `literals` bytes from `from` on, and a match that ends at `end`. */
export function addSequence(from: usize, literals: u32, length: i32, distance: u32, end: usize): void {
  if (literals >= PART_LITERALS && sequences > measured) endPart(from);
  putSequence(sequences++, literals, length, distance);
  if (sequences - measured >= PART_SEQUENCES || end - partFrom >= PART_BYTES) endPart(end);
}

function endPart(end: usize): void {
  countPart(measured, sequences, partFrom);
  placePart(end);
}

/**
 * The part that was counted, which ends at `end`, becomes part of the block before it, or ends that where a new one
 * pays.
 */
function placePart(end: usize): void {
  const partBits = entropy(PART_COUNTS, NO_COUNTS);
  const joinedBits = entropy(BLOCK_COUNTS, PART_COUNTS);
  const full = sequences > MOST_SEQUENCES - PART_SEQUENCES;
  if (blockFrom < partFrom && (full || joinedBits > blockBits + partBits + HEADER_BITS)) {
    writeBlock(blockFrom, partFrom, measured, false);
    sequences -= measured;
    memory.copy(SEQUENCES, SEQUENCES + ((<usize>measured) << 3), (<usize>sequences) << 3);
    blockFrom = partFrom;
    beginBlock();
    blockBits = partBits;
  } else {
    joinBlock();
    blockBits = joinedBits;
  }
  measured = sequences;
  partFrom = end;
}

/** The last block: what is left of the sequences, and the literals [from, end) behind the last match. */
export function endBlocks(from: usize, end: usize): void {
  endPart(from);
  countLiterals(from, end);
  placePart(end);
  writeBlock(blockFrom, end, sequences, true);
}
