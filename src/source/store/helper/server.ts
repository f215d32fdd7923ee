/** The helper's side of the protocol: answers requests for files below the roots that it was started with. */

import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { Readable, type Writable } from 'node:stream';
import type { StoreFiles } from '../files/files.ts';
import { storeError } from '../files/folder.ts';

/** Answers requests until the input ends. */
export async function serve(files: StoreFiles, input: Readable, output: Writable): Promise<void> {
  const streams = new Map<number, Sending>();
  output.setMaxListeners(0); // Each stream waits for the pipe by itself.
  await send(output, 0, Kind.data, Buffer.from(HELLO));
  for await (const line of createInterface({ input })) {
    const request = JSON.parse(line) as Request;
    if (request.ask === 'more') streams.get(request.id)?.more(request.bytes);
    else if (request.ask === 'stop') streams.get(request.id)?.stop();
    else {
      const sending = new Sending(request.id, streamOf(files, request), output);
      streams.set(request.id, sending);
      void sending.run().finally(() => streams.delete(request.id));
    }
  }
  for (const sending of streams.values()) sending.stop();
  await files.close();
}

type Asked = Exclude<Request, { ask: 'more' | 'stop' }>;

function streamOf(files: StoreFiles, request: Asked): Readable {
  if (request.ask === 'range') return files.range(request.path, request.start, request.end);
  if (request.ask === 'layer') return files.layer(request.tarSplit, request.folder);
  return Readable.from(sizeText(files, request.path), { objectMode: false });
}

async function* sizeText(files: StoreFiles, path: string): AsyncGenerator<Buffer> {
  yield Buffer.from(String(await files.size(path)));
}

/** One stream on its way, and the credit that it has. */
class Sending {
  readonly #id: number;
  readonly #stream: Readable;
  readonly #output: Writable;
  #credit = 0;
  #stopped = false;
  #wake: () => void = () => {};

  constructor(id: number, stream: Readable, output: Writable) {
    this.#id = id;
    this.#stream = stream;
    this.#output = output;
  }

  more(bytes: number): void {
    this.#credit += bytes;
    this.#wake();
  }

  stop(): void {
    this.#stopped = true;
    this.#wake();
    this.#stream.destroy();
  }

  async run(): Promise<void> {
    try {
      for await (const chunk of this.#stream) {
        await this.#allowed();
        if (this.#stopped) return;
        this.#credit -= chunk.length;
        await send(this.#output, this.#id, Kind.data, chunk);
      }
      if (!this.#stopped) await send(this.#output, this.#id, Kind.end, Buffer.alloc(0));
    } catch (error) {
      const { message, path, code } = storeError(error, 'the store');
      const failure: Failure = { message, path, code };
      if (!this.#stopped) await send(this.#output, this.#id, Kind.failure, Buffer.from(JSON.stringify(failure)));
    }
  }

  /** Waits for credit. The last chunk may go past it: a block at most. */
  async #allowed(): Promise<void> {
    while (this.#credit <= 0 && !this.#stopped) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

async function send(output: Writable, id: number, kind: number, payload: Buffer): Promise<void> {
  output.write(header(id, kind, payload.length));
  if (!output.write(payload)) await once(output, 'drain');
}

// The protocol between this process and its read-only helper. Requests are lines of JSON; answers are frames, for
// they carry bytes. Several streams share one pipe, so each is sent only as far as its reader has granted credit: one
// slow upload must not stop the others, nor fill the memory.

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
function header(id: number, kind: number, length: number): Buffer {
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
