/** How a block describes its codes (RFC 1951, section 3.2.7): their lengths, with runs, in a third Huffman code. */
import { put } from './bits';
import { buildCodes } from './huffman';
import { CODES, HEADER, LITERALS } from './layout';
import { DISTANCE_CODE_COUNT, LENGTH_CODE_COUNT } from './symbols';

const LITERAL_CODE_COUNT: i32 = 257 + LENGTH_CODE_COUNT;
const ORDER = memory.data<u8>([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]);
const ORDER_COUNT: i32 = 19;
const LONGEST_CODE: i32 = 7;

const REPEAT: i32 = 16;
const ZEROS: i32 = 17;
const MANY_ZEROS: i32 = 18;

/** Lengths of all codes, u8; items, u16: symbol and, from bit 5, extra bits; their counts and codes, u32. */
const ALL_LENGTHS: usize = HEADER;
const ITEMS: usize = HEADER + 512;
const ITEM_COUNTS: usize = HEADER + 1280;
const ITEM_CODES: usize = HEADER + 1408;

let literalCount: i32 = 0;
let distanceCount: i32 = 0;
let itemCount: i32 = 0;

/** Prepares the description of the codes in CODES and returns how many bits it will take. */
export function measureHeader(): i32 {
  literalCount = lastUsed(CODES, LITERAL_CODE_COUNT, 257);
  distanceCount = lastUsed(CODES + (LITERALS << 2), DISTANCE_CODE_COUNT, 1);
  for (let i = 0; i < literalCount; i++) store<u8>(ALL_LENGTHS + <usize>i, lengthAt(CODES, i));
  for (let i = 0; i < distanceCount; i++) {
    store<u8>(ALL_LENGTHS + <usize>(literalCount + i), lengthAt(CODES + (LITERALS << 2), i));
  }
  findItems(literalCount + distanceCount);
  buildCodes(ITEM_COUNTS, ITEM_CODES, ORDER_COUNT, LONGEST_CODE);
  let bits = 14 + 3 * orderCount();
  for (let symbol = 0; symbol < ORDER_COUNT; symbol++) {
    bits +=
      <i32>load<u32>(ITEM_COUNTS + ((<usize>symbol) << 2)) * (<i32>lengthAt(ITEM_CODES, symbol) + extraBits(symbol));
  }
  return bits;
}

/** Writes what `measureHeader` prepared. */
export function writeHeader(): void {
  const order = orderCount();
  put(literalCount - 257, 5);
  put(distanceCount - 1, 5);
  put(order - 4, 4);
  for (let i = 0; i < order; i++) put(lengthAt(ITEM_CODES, ordered(i)), 3);
  for (let i = 0; i < itemCount; i++) {
    const item = <i32>load<u16>(ITEMS + ((<usize>i) << 1));
    const symbol = item & 31;
    const code = load<u32>(ITEM_CODES + ((<usize>symbol) << 2));
    put(code & 0xffffff, code >> 24);
    if (symbol >= REPEAT) put(item >> 5, extraBits(symbol));
  }
}

function lengthAt(codes: usize, at: i32): u8 {
  return <u8>(load<u32>(codes + ((<usize>at) << 2)) >> 24);
}

function lastUsed(codes: usize, count: i32, least: i32): i32 {
  while (count > least && lengthAt(codes, count - 1) === 0) count--;
  return count;
}

function ordered(at: i32): i32 {
  return <i32>load<u8>(ORDER + <usize>at);
}

function orderCount(): i32 {
  let count = ORDER_COUNT;
  while (count > 4 && lengthAt(ITEM_CODES, ordered(count - 1)) === 0) count--;
  return count;
}

function extraBits(symbol: i32): i32 {
  if (symbol === REPEAT) return 2;
  if (symbol === ZEROS) return 3;
  return symbol === MANY_ZEROS ? 7 : 0;
}

function findItems(count: i32): void {
  memory.fill(ITEM_COUNTS, 0, ORDER_COUNT << 2);
  itemCount = 0;
  for (let i = 0; i < count; ) {
    const length = load<u8>(ALL_LENGTHS + <usize>i);
    let run = 1;
    while (i + run < count && load<u8>(ALL_LENGTHS + <usize>(i + run)) === length) run++;
    i += run;
    if (length === 0) addZeros(run);
    else addRun(length, run);
  }
}

function addZeros(run: i32): void {
  for (; run >= 11; run -= min(run, 138)) add(MANY_ZEROS, min(run, 138) - 11);
  if (run >= 3) add(ZEROS, run - 3);
  else for (; run > 0; run--) add(0, 0);
}

function addRun(length: i32, run: i32): void {
  add(length, 0);
  run--;
  for (; run >= 3; run -= min(run, 6)) add(REPEAT, min(run, 6) - 3);
  for (; run > 0; run--) add(length, 0);
}

function add(symbol: i32, extra: i32): void {
  store<u16>(ITEMS + ((<usize>itemCount) << 1), <u16>(symbol | (extra << 5)));
  itemCount++;
  const count = ITEM_COUNTS + ((<usize>symbol) << 2);
  store<u32>(count, load<u32>(count) + 1);
}
