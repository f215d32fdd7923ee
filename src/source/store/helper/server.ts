/** The helper's side of the protocol: answers requests for files below the roots that it was started with. */

import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { Readable, type Writable } from 'node:stream';
import type { StoreFiles } from '../files/files.ts';
import { storeError } from '../files/folder.ts';
import { type Failure, HELLO, header, Kind, type Request } from './protocol.ts';

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
