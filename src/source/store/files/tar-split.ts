import { StoreError } from './folder.ts';

/** A segment of a layer's tar: bytes as they are, or the content of a file (bytes long) in the layer's folder. */
export type Segment = { readonly bytes: Buffer } | { readonly name: string; readonly size: number };

/** Entry.Type of tar-split: FileType and SegmentType. */
const FILE = 1;
const SEGMENT = 2;

/** The longest line that is accepted: a segment is a few headers of 512 bytes, seldom more than a long name or many xattrs. */
const LONGEST_LINE = 64 * 2 ** 20;

interface Entry {
  readonly type: number;
  readonly name?: string;
  /** Base64 of a name that is not UTF-8. */
  readonly name_raw?: string;
  readonly size?: number;
  /** Base64: a segment's bytes, or a file's CRC-64. */
  readonly payload?: string | null;
}

/**
 * The segments of a layer's tar in order, in batches, from the (uncompressed) bytes of its tar-split file. Names are
 * latin1, a byte a letter. The CRC-64 of a file is not looked at: the diffID covers all of it. Throws StoreError.
 */
export async function* segmentsOf(tarSplit: AsyncIterable<Buffer>): AsyncGenerator<Segment[]> {
  for await (const lines of completeLines(tarSplit)) {
    const segments: Segment[] = [];
    for (const line of lines.split('\n')) {
      const segment = line === '' ? undefined : segmentOf(line);
      if (segment) segments.push(segment);
    }
    yield segments;
  }
}

/** Text that ends where a line ends. */
async function* completeLines(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let rest: Buffer[] = [];
  let restSize = 0;
  for await (const chunk of chunks) {
    const end = chunk.lastIndexOf(10) + 1;
    if (end > 0) {
      yield Buffer.concat([...rest, chunk.subarray(0, end)]).toString('utf8');
      rest = [];
      restSize = 0;
    }
    rest.push(chunk.subarray(end));
    restSize += chunk.length - end;
    if (restSize > LONGEST_LINE) throw new StoreError(`tar-split: a line of more than ${LONGEST_LINE} bytes`);
  }
  if (restSize > 0) yield Buffer.concat(rest).toString('utf8');
}

function segmentOf(line: string): Segment | undefined {
  const entry = parse(line);
  if (entry.type === SEGMENT) return { bytes: Buffer.from(entry.payload ?? '', 'base64') };
  if (entry.type !== FILE) throw new StoreError(`tar-split: an entry of unknown type ${entry.type}`);
  const size = entry.size ?? 0;
  if (!Number.isSafeInteger(size) || size < 0) throw new StoreError(`tar-split: a file of ${size} bytes`);
  if (size === 0) return undefined;
  const name = entry.name_raw ? Buffer.from(entry.name_raw, 'base64') : Buffer.from(entry.name ?? '', 'utf8');
  return { name: name.toString('latin1'), size };
}

function parse(line: string): Entry {
  try {
    return JSON.parse(line) as Entry;
  } catch (cause) {
    throw new StoreError(`tar-split: not JSON: ${line.slice(0, 80)}`, { cause });
  }
}
