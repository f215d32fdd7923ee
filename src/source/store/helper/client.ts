/** Reading through the helper: a process of its own, under sudo, that may read what this one may not. */

import { type ChildProcess, spawn } from 'node:child_process';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { assertSmall, type StoreFiles } from '../files/files.ts';
import { StoreError } from '../files/folder.ts';
import { type Failure, FrameReader, HELLO, Kind, type Request } from './server.ts';

/** Bytes of a stream that may be under way or unread: a few of the helper's blocks. */
const WINDOW = 2 * 2 ** 20;
/** Milliseconds until the helper must have answered: sudo may look for its host's name first. */
const START_TIMEOUT = 15_000;
/** Milliseconds that the helper has to end by itself when its input is closed. */
const STOP_TIMEOUT = 2_000;
/** Characters of the helper's stderr that are kept for the message. */
const STDERR_SIZE = 2_000;

/** `-n`: sudo never asks for a password. */
const SUDO = ['sudo', '-n', '--'];

interface HelperOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  /** What it is started with: SUDO by default. */
  readonly prefix?: readonly string[];
}

/** The helper beside the bundle that this code is part of, or its source. */
const helperPath = (): string =>
  fileURLToPath(
    import.meta.url.endsWith('.ts')
      ? new URL('./main.ts', import.meta.url)
      : new URL('./store-helper.js', import.meta.url),
  );

/** Starts the helper for some roots and waits until it answers. Throws StoreError when sudo or the helper refuses. */
export async function startHelper(roots: readonly string[], options: HelperOptions): Promise<StoreFiles> {
  const [command, ...args] = [...(options.prefix ?? SUDO), process.execPath, helperPath(), ...roots];
  const child = spawn(command!, args, {
    env: options.env,
    stdio: 'pipe',
    signal: options.signal,
  });
  const helper = new HelperFiles(child);
  try {
    await helper.ready(START_TIMEOUT);
    return helper;
  } catch (error) {
    await helper.close();
    throw error;
  }
}

class HelperFiles implements StoreFiles {
  readonly #child: ChildProcess;
  readonly #streams = new Map<number, HelperStream>();
  readonly #ended: Promise<void>;
  readonly #answered = Promise.withResolvers<void>();
  #hello = '';
  #stderr = '';
  #failure: StoreError | undefined;
  #nextId = 1;

  constructor(child: ChildProcess) {
    this.#child = child;
    const frames = new FrameReader((id, kind, payload) => this.#arrived(id, kind, payload));
    child.stdout!.on('data', (chunk: Buffer) => frames.take(chunk));
    child.stderr!.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString('utf8')).slice(-STDERR_SIZE);
    });
    child.stdin!.on('error', () => {}); // It has ended: `close` says why.
    this.#ended = new Promise((resolve) => {
      child.on('error', (cause) => this.#fail(cause.message, resolve));
      child.once('close', (code, signal) => this.#fail(`it ended with ${signal ?? `exit code ${code}`}`, resolve));
    });
  }

  /** Waits for the helper's first frame, at most `timeout` milliseconds. Throws StoreError. */
  async ready(timeout: number): Promise<void> {
    const timer = setTimeout(() => this.#fail(`no answer within ${timeout / 1000} s`), timeout);
    await this.#answered.promise.finally(() => clearTimeout(timer));
  }

  async size(path: string): Promise<number> {
    const text = await collected(
      this.#ask((id) => ({ id, ask: 'size', path })),
      path,
    );
    return Number(text.toString('latin1'));
  }

  bytes(path: string, end?: number): Promise<Buffer> {
    return collected(this.range(path, 0, end), path);
  }

  range(path: string, start = 0, end?: number): Readable {
    return this.#ask((id) => ({ id, ask: 'range', path, start, ...(end === undefined ? {} : { end }) }));
  }

  layer(tarSplit: string, folder: string): Readable {
    return this.#ask((id) => ({ id, ask: 'layer', tarSplit, folder }));
  }

  async close(): Promise<void> {
    this.#child.stdin!.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_TIMEOUT);
    await this.#ended;
    clearTimeout(timer);
  }

  #ask(request: (id: number) => Request): Readable {
    const id = this.#nextId++;
    const stream = new HelperStream({
      more: (bytes) => this.#send({ id, ask: 'more', bytes }),
      stop: () => {
        if (this.#streams.delete(id)) this.#send({ id, ask: 'stop' });
      },
    });
    if (this.#failure) stream.destroy(this.#failure);
    else this.#streams.set(id, stream);
    this.#send(request(id));
    return stream;
  }

  #send(request: Request): void {
    if (this.#child.stdin!.writable) this.#child.stdin!.write(`${JSON.stringify(request)}\n`);
  }

  #arrived(id: number, kind: number, payload: Buffer): void {
    if (id === 0) {
      this.#hello += payload.toString('latin1');
      if (this.#hello === HELLO) this.#answered.resolve();
      else if (!HELLO.startsWith(this.#hello)) this.#fail('it is of another version');
      return;
    }
    const stream = this.#streams.get(id); // Undefined for one that was stopped while its bytes were under way.
    if (!stream) return;
    if (kind === Kind.data) {
      stream.arrived(payload);
      return;
    }
    this.#streams.delete(id);
    if (kind === Kind.end) stream.push(null);
    else stream.destroy(errorOf(payload));
  }

  #fail(reason: string, done?: () => void): void {
    const stderr = this.#stderr.trim();
    this.#failure ??= new StoreError(`the helper under sudo failed: ${stderr || reason}`);
    this.#answered.reject(this.#failure);
    for (const stream of this.#streams.values()) stream.destroy(this.#failure);
    this.#streams.clear();
    done?.();
  }
}

/** All bytes of a stream. Throws StoreError for too many. */
async function collected(stream: Readable, path: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    size += chunk.length;
    assertSmall(path, size);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function errorOf(payload: Buffer): StoreError {
  const { message, path, code } = JSON.parse(payload.toString('utf8')) as Failure;
  return new StoreError(message, { path, code });
}

/** A stream of the helper's, which grants credit as it is read. */
class HelperStream extends Readable {
  readonly #calls: { more(bytes: number): void; stop(): void };
  /** Bytes that the helper may still send. */
  #granted = 0;

  constructor(calls: { more(bytes: number): void; stop(): void }) {
    super({ highWaterMark: WINDOW });
    this.#calls = calls;
  }

  arrived(payload: Buffer): void {
    this.#granted -= payload.length;
    this.push(payload);
  }

  override _read(): void {
    const wanted = WINDOW - this.#granted - this.readableLength;
    // In large grants, but never none: without bytes under way nothing would bring the stream back here.
    if (wanted < WINDOW / 4 && this.#granted > 0) return;
    const grant = Math.max(wanted, WINDOW / 4);
    this.#granted += grant;
    this.#calls.more(grant);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#calls.stop();
    done(error);
  }
}
