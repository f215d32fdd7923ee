/**
 * What the input is taken apart into: some literals, then a match. A sequence is a u64: literals (20 bits), length of
 * the match (9), distance code (5, from bit 32), its extra bits' number (4, from 40) and value (16, from 48).
 */
import { SEQUENCES } from './layout';
import { distanceBase, distanceCode, distanceExtra } from './symbols';

export function putSequence(at: i32, literals: u32, length: i32, distance: u32): void {
  const code = distanceCode(distance);
  const low = literals | ((<u32>length) << 20);
  const high = <u32>code | ((<u32>distanceExtra(code)) << 8) | ((distance - distanceBase(code)) << 16);
  store<u64>(SEQUENCES + ((<usize>at) << 3), <u64>low | ((<u64>high) << 32));
}

export function literalsOf(sequence: u64): i32 {
  return <i32>(sequence & 0xfffff);
}

export function lengthOf(sequence: u64): i32 {
  return <i32>(sequence >> 20) & 0x1ff;
}

export function distanceCodeOf(sequence: u64): i32 {
  return <i32>(sequence >> 32) & 0x1f;
}

export function extraCountOf(sequence: u64): i32 {
  return <i32>(sequence >> 40) & 0xf;
}

export function extraOf(sequence: u64): u64 {
  return sequence >> 48;
}
