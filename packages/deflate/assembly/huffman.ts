/**
 * Huffman codes out of counts: lengths by Moffat and Katajainen's in-place algorithm, cut to a limit, numbered as RFC
 * 1951, section 3.2.2, says.
 */
import { TREE } from './layout';

/** Used symbols, rarest first: count << 9 | symbol, u32. */
const SORTED: usize = TREE;
/** Weights, then parents, then depths of the inner nodes, u32. */
const NODES: usize = TREE + 2048;
/** How many codes have each length, u32, up to the deepest tree of 288 symbols; and the next code of each length. */
const LENGTHS: usize = TREE + 4096;
const NEXT_CODES: usize = TREE + 5376;
/** The length of each symbol's code, u8. */
const LENGTH_OF: usize = TREE + 5504;

/**
 * Finds the codes of `count` symbols (u32 counts at `counts`), of at most `limit` bits each, and stores them at `codes`
 * (see layout.ts).
 */
export function buildCodes(counts: usize, codes: usize, count: i32, limit: i32): void {
  memory.fill(codes, 0, (<usize>count) << 2);
  const used = gather(counts, count);
  if (used < 2) {
    twoCodes(codes, used);
    return;
  }
  sort(used);
  for (let i = 0; i < used; i++) put(NODES, i, get(SORTED, i) >> 9);
  findParents(used);
  findLengths(used, limit);
  shorten(limit);
  number(codes, count, used, limit);
}

function get(array: usize, at: i32): u32 {
  return load<u32>(array + ((<usize>at) << 2));
}

function put(array: usize, at: i32, value: u32): void {
  store<u32>(array + ((<usize>at) << 2), value);
}

function gather(counts: usize, count: i32): i32 {
  let used = 0;
  for (let symbol = 0; symbol < count; symbol++) {
    const times = get(counts, symbol);
    if (times > 0) put(SORTED, used++, (times << 9) | <u32>symbol);
  }
  return used;
}

/** Some decoders refuse a code that is not complete, so one symbol, or none, gets two codes of one bit. */
function twoCodes(codes: usize, used: i32): void {
  const symbol = used > 0 ? <i32>(get(SORTED, 0) & 511) : 0;
  const other = symbol === 0 ? 1 : 0;
  put(codes, min(symbol, other), 1 << 24);
  put(codes, max(symbol, other), 1 | (1 << 24));
}

/** Shell's sort: a few hundred entries at most. */
function sort(used: i32): void {
  let gap = 1;
  while (gap < used / 3) gap = gap * 3 + 1;
  for (; gap > 0; gap /= 3) {
    for (let i = gap; i < used; i++) {
      const entry = get(SORTED, i);
      let at = i;
      for (; at >= gap && get(SORTED, at - gap) > entry; at -= gap) put(SORTED, at, get(SORTED, at - gap));
      put(SORTED, at, entry);
    }
  }
}

/** First pass: two rarest nodes are joined until one is left; each learns its parent. */
function findParents(used: i32): void {
  let leaf = 0;
  let root = 0;
  for (let node = 0; node < used - 1; node++) {
    let weight: u32 = 0;
    for (let child = 0; child < 2; child++) {
      if (leaf >= used || (root < node && get(NODES, root) < get(NODES, leaf))) {
        weight += get(NODES, root);
        put(NODES, root++, <u32>node);
      } else {
        weight += get(NODES, leaf++);
      }
    }
    put(NODES, node, weight);
  }
}

/**
 * Second and third pass: depths of the inner nodes, then how many leaves lie at each depth. Deeper ones count as
 * `limit`.
 */
function findLengths(used: i32, limit: i32): void {
  memory.fill(LENGTHS, 0, 64 << 2);
  put(NODES, used - 2, 0);
  for (let node = used - 3; node >= 0; node--) put(NODES, node, get(NODES, <i32>get(NODES, node)) + 1);
  let node = used - 2;
  let depth = 0;
  for (let open = 1; open > 0; depth++) {
    let inner = 0;
    for (; node >= 0 && <i32>get(NODES, node) === depth; node--) inner++;
    const length = min(depth, limit);
    put(LENGTHS, length, get(LENGTHS, length) + <u32>(open - inner));
    open = 2 * inner;
  }
}

/**
 * Codes that were cut to the limit have taken more room than there is (Kraft's sum): others are made longer until all
 * fit.
 */
function shorten(limit: i32): void {
  let room: i32 = 1 << limit;
  for (let length = 1; length <= limit; length++) room -= (<i32>get(LENGTHS, length)) << (limit - length);
  for (; room < 0; room++) {
    let length = limit - 1;
    while (get(LENGTHS, length) === 0) length--;
    put(LENGTHS, length, get(LENGTHS, length) - 1);
    put(LENGTHS, length + 1, get(LENGTHS, length + 1) + 2);
    put(LENGTHS, limit, get(LENGTHS, limit) - 1);
  }
}

/** The most frequent symbols get the shortest codes; codes of one length are numbered in the order of their symbols. */
function number(codes: usize, count: i32, used: i32, limit: i32): void {
  memory.fill(LENGTH_OF, 0, <usize>count);
  let code: u32 = 0;
  let at = used - 1;
  for (let length = 1; length <= limit; length++) {
    put(NEXT_CODES, length, code);
    const having = get(LENGTHS, length);
    code = (code + having) << 1;
    for (let i: u32 = 0; i < having; i++) store<u8>(LENGTH_OF + <usize>(get(SORTED, at--) & 511), <u8>length);
  }
  for (let symbol = 0; symbol < count; symbol++) {
    const length = <i32>load<u8>(LENGTH_OF + <usize>symbol);
    if (length === 0) continue;
    const own = get(NEXT_CODES, length);
    put(NEXT_CODES, length, own + 1);
    put(codes, symbol, reversed(own, length) | ((<u32>length) << 24));
  }
}

/** Huffman codes go in highest bit first, all else lowest first. */
function reversed(code: u32, length: i32): u32 {
  let result: u32 = 0;
  for (let i = 0; i < length; i++) {
    result = (result << 1) | (code & 1);
    code >>= 1;
  }
  return result;
}
