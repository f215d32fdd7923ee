/**
 * Deflate (RFC 1951), as fast as one pass is, for container layers: a compiled module without imports. One call
 * compresses one block of a layer, which depends on nothing before it; the same input gives the same output everywhere.
 * What it was measured to do is in docs/compressors.md.
 */
import { align, next, resume } from './bits';
import { endBlocks, startBlocks } from './blocks';
import { fillLogarithms } from './counts';
import { INPUT, INPUT_BYTES, OUTPUT } from './layout';
import { findMatches } from './matches';
import { fillSymbols } from './symbols';

/** Where the input goes, and where the output is: at most 1 MiB each, the output 1/256 more. */
export function input(): usize {
  return INPUT;
}

export function output(): usize {
  return OUTPUT;
}

export function capacity(): i32 {
  return INPUT_BYTES;
}

/** Compresses the first `size` bytes at `input()` and returns how many bytes are at `output()`. */
export function deflate(size: i32): i32 {
  resume(OUTPUT, 0, 0);
  startBlocks();
  const end = INPUT + <usize>size;
  endBlocks(findMatches(end), end);
  align();
  return <i32>(next - OUTPUT);
}

fillSymbols();
fillLogarithms();
