/**
 * The protocol between this process and its read-only helper. Requests are lines of JSON; answers are frames, for they
 * carry bytes. Several streams share one pipe, so each is sent only as far as its reader has granted credit: one slow
 * upload must not stop the others, nor fill the memory.
 */

/** A request. `id` names the stream that answers it. */
export type Request =
  | { readonly id: number; readonly ask: 'size'; readonly path: string }
  | { readonly id: number; readonly ask: 'range'; readonly path: string; readonly start: number; readonly end?: number }
  | { readonly id: number; readonly ask: 'layer'; readonly tarSplit: string; readonly folder: string }
  /** Grants the helper this number of further bytes. */
  | { readonly id: number; readonly ask: 'more'; readonly bytes: number }
  | { readonly id: number; readonly ask: 'stop' };

/** A frame's kind: bytes, the end of the stream, or its failure (JSON of Failure). */
export const Kind = { data: 0, end: 1, failure: 2 } as const;

/** What the helper says first, as a data frame of stream 0. */
export const HELLO = 'chunked-push store helper 1';

/** A StoreError on its way. */
export interface Failure {
  readonly message: string;
  readonly path?: string | undefined;
  readonly code?: string | undefined;
}

/** Stream (4 bytes), kind (1), length of the payload (4), big endian. */
const HEADER_SIZE = 9;

/** A frame's header. */
export function header(id: number, kind: number, length: number): Buffer {
  const bytes = Buffer.alloc(HEADER_SIZE);
  bytes.writeUInt32BE(id, 0);
  bytes.writeUInt8(kind, 4);
  bytes.writeUInt32BE(length, 5);
  return bytes;
}

/**
 * Takes frames apart as they arrive. Data is passed on in the slices that arrived, without a copy; `end` and `failure`
 * come with their complete payload.
 */
export class FrameReader {
  readonly #deliver: (id: number, kind: number, payload: Buffer) => void;
  #header = Buffer.alloc(0);
  #left = 0;
  #payload: Buffer[] = [];

  constructor(deliver: (id: number, kind: number, payload: Buffer) => void) {
    this.#deliver = deliver;
  }

  /** Takes the next bytes of the pipe. */
  take(chunk: Buffer): void {
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#header.length < HEADER_SIZE) {
        const wanted = HEADER_SIZE - this.#header.length;
        this.#header = Buffer.concat([this.#header, rest.subarray(0, wanted)]);
        rest = rest.subarray(wanted);
        if (this.#header.length < HEADER_SIZE) return;
        this.#left = this.#header.readUInt32BE(5);
      }
      const payload = rest.subarray(0, this.#left);
      rest = rest.subarray(payload.length);
      this.#left -= payload.length;
      this.#pass(payload);
      if (this.#left === 0) this.#header = Buffer.alloc(0);
    }
  }

  #pass(bytes: Buffer): void {
    const id = this.#header.readUInt32BE(0);
    const kind = this.#header.readUInt8(4);
    if (kind === Kind.data) {
      if (bytes.length > 0) this.#deliver(id, kind, bytes);
      return;
    }
    this.#payload.push(bytes);
    if (this.#left > 0) return;
    const payload = Buffer.concat(this.#payload);
    this.#payload = [];
    this.#deliver(id, kind, payload);
  }
}
