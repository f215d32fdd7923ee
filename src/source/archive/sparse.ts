/**
 * Sparse files in tar files: only the parts that are no holes are stored, with a map of where they belong. GNU tar -S
 * writes them in four formats; which one is used depends on --format and --sparse-version.
 * https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html
 */

import { Readable } from 'node:stream';

/** Reads the block at a position, shorter at the end of the file. Positions ascend from call to call. */
export type BlockReader = (position: number) => Promise<Buffer>;

/** One stored part of a file, bytes. */
interface SparsePart {
  /** Where it belongs in the file. */
  readonly offset: number;
  readonly length: number;
}

export interface SparseMap {
  /** Bytes of the file with its holes. */
  readonly size: number;
  readonly parts: readonly SparsePart[];
}

/** The records of a PAX header in their order, as they were written. */
export type PaxRecords = readonly (readonly [key: string, value: string])[];

const BLOCK = 512;
/** Parts of one file: GNU tar writes one for each run of data blocks. */
const MAX_PARTS = 1_000_000;
/** Holes of one file: they cost nothing in the archive, and its reader as much time as other bytes. Bytes. */
const MAX_HOLES = 16 * 2 ** 30;

/** Reads `length key=value\n` records. POSIX.1-2017 pax, "pax Extended Header". */
export function paxRecords(bytes: Buffer): PaxRecords {
  const records: [string, string][] = [];
  for (let position = 0; position < bytes.length; ) {
    const space = bytes.indexOf(0x20, position);
    const length = space < 0 ? 0 : Number(bytes.toString('latin1', position, space));
    const equals = bytes.indexOf(0x3d, space);
    if (!(length > 0) || equals < 0 || equals >= position + length) break;
    const value = bytes.toString('utf8', equals + 1, position + length - 1);
    records.push([bytes.toString('utf8', space + 1, equals), value]);
    position += length;
  }
  return records;
}

const record = (pax: PaxRecords, key: string): string | undefined => pax.findLast(([one]) => one === key)?.[1];

/** The name of a sparse file, whose header has a made-up one for tools that know nothing of it. */
export const sparseNameOf = (pax: PaxRecords): string | undefined => record(pax, 'GNU.sparse.name');

/**
 * The map in a header of type `S` (GNU's old format) and its extension blocks; `end` is where the body begins. Throws
 * Error.
 */
export async function readOldSparseMap(
  header: Buffer,
  blockAt: BlockReader,
  position: number,
): Promise<{ map: SparseMap; end: number }> {
  const parts = oldParts(header, 386, 4);
  let end = position;
  for (let isExtended = header[482] === 1; isExtended; end += BLOCK) {
    const block = await blockAt(end);
    if (block.length < BLOCK || parts.length > MAX_PARTS)
      throw new Error(`the sparse map at byte ${position} has no end`);
    parts.push(...oldParts(block, 0, 21));
    isExtended = block[504] === 1;
  }
  return { map: checkedMap(tarNumber(header, 483), parts), end };
}

function oldParts(block: Buffer, start: number, count: number): SparsePart[] {
  const parts = Array.from({ length: count }, (_, at) => start + at * 24).map((at) => ({
    offset: tarNumber(block, at),
    length: tarNumber(block, at + 12),
    isUsed: block[at + 12] !== 0,
  }));
  return parts.filter(({ isUsed }) => isUsed).map(({ offset, length }) => ({ offset, length }));
}

/** A number of 12 bytes: octal digits, or big-endian binary after a byte with the high bit set. */
function tarNumber(block: Buffer, at: number): number {
  if ((block[at]! & 0x80) === 0) return Number.parseInt(block.toString('latin1', at, at + 12), 8) || 0;
  return Number(block.readBigUInt64BE(at + 4));
}

/**
 * The map of a sparse file in a PAX format, and where its stored parts begin; undefined for a file that is not sparse.
 * 0.0 and 0.1 have the map in the records, 1.0 at the start of the body. Throws Error for a map that can't be used.
 */
export async function readPaxSparseMap(
  pax: PaxRecords,
  blockAt: BlockReader,
  body: number,
): Promise<{ map: SparseMap; start: number } | undefined> {
  const size = record(pax, 'GNU.sparse.realsize') ?? record(pax, 'GNU.sparse.size');
  if (size === undefined) return undefined;
  if (record(pax, 'GNU.sparse.major') === '1') {
    const { numbers, start } = await numbersInBody(blockAt, body);
    return { map: checkedMap(Number(size), paired(numbers)), start };
  }
  const map = record(pax, 'GNU.sparse.map');
  const numbers =
    map?.split(',') ?? pax.filter(([key]) => /^GNU\.sparse\.(offset|numbytes)$/.test(key)).map(([, value]) => value);
  return { map: checkedMap(Number(size), paired(numbers.map(Number))), start: body };
}

/** Lines of digits, the first of which says how many pairs follow; filled up to the end of a block. */
async function numbersInBody(blockAt: BlockReader, body: number): Promise<{ numbers: number[]; start: number }> {
  const numbers: number[] = [];
  let wanted = Number.POSITIVE_INFINITY;
  let rest = '';
  let position = body;
  while (numbers.length < wanted) {
    const block = await blockAt(position);
    if (block.length < BLOCK || rest.length > BLOCK) throw new Error(`the sparse map at byte ${body} has no end`);
    position += BLOCK;
    const lines = (rest + block.toString('latin1')).split('\n');
    rest = lines.pop()!;
    for (const line of lines) {
      if (wanted === Number.POSITIVE_INFINITY) wanted = 2 * Number(line);
      else if (numbers.length < wanted) numbers.push(Number(line));
    }
    if (!(wanted <= 2 * MAX_PARTS) && lines.length > 0) throw new Error(`the sparse map at byte ${body} is damaged`);
  }
  return { numbers, start: position };
}

const paired = (numbers: readonly number[]): SparsePart[] =>
  Array.from({ length: Math.floor(numbers.length / 2) }, (_, at) => ({
    offset: numbers[2 * at]!,
    length: numbers[2 * at + 1]!,
  }));

function checkedMap(size: number, parts: readonly SparsePart[]): SparseMap {
  let end = 0;
  for (const { offset, length } of parts) {
    const isNumber = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && length >= 0;
    if (!isNumber || offset < end || offset + length > size)
      throw new Error('a sparse file in it has a map with overlapping parts');
    end = offset + length;
  }
  const map = { size, parts };
  if (!Number.isSafeInteger(size) || size - storedBytes(map) > MAX_HOLES || parts.length > MAX_PARTS) {
    throw new Error(
      `a sparse file in it has ${size} bytes, and more than ${MAX_HOLES} of them are holes: no layer has`,
    );
  }
  return map;
}

/** Bytes that are stored. */
export const storedBytes = ({ parts }: SparseMap): number => parts.reduce((sum, { length }) => sum + length, 0);

const ZEROS = Buffer.alloc(256 * 1024);

/**
 * The bytes [start, end) of a sparse file, its holes as zeros. `stored` reads a range of the stored parts, one after
 * the other.
 */
export function sparseStream(
  map: SparseMap,
  stored: (start: number, end: number) => Readable,
  start: number,
  end: number,
): Readable {
  return Readable.from(sparseBytes(map, stored, start, end), { objectMode: false });
}

async function* sparseBytes(
  { parts }: SparseMap,
  stored: (start: number, end: number) => Readable,
  start: number,
  end: number,
): AsyncGenerator<Buffer> {
  let position = start;
  let before = 0;
  for (const { offset, length } of parts) {
    const from = Math.max(position, offset);
    const to = Math.min(end, offset + length);
    if (from < to) {
      yield* zeros(from - position);
      yield* stored(before + from - offset, before + to - offset) as AsyncIterable<Buffer>;
      position = to;
    }
    before += length;
  }
  yield* zeros(end - position);
}

function* zeros(count: number): Generator<Buffer> {
  for (let left = count; left > 0; left -= ZEROS.length) yield ZEROS.subarray(0, Math.min(left, ZEROS.length));
}
