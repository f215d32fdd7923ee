/**
 * `docker save` and `podman save` as a stream, never as a tar on disk. @actions/exec cuts a tool's output into lines
 * and has no back-pressure, so the tool writes into a FIFO, which this process reads as a socket: a slow reader makes
 * the tool wait.
 */

import { closeSync, constants, openSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { type OnReadOpts, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ImageError } from '../../common/error.ts';
import { hasFifos, type System } from '../../common/platform.ts';
import type { ByteInput } from '../archive/entry.ts';
import { ArchiveStream, type Exporter } from '../archive/stream.ts';
import type { OpenOptions, StreamSource } from '../source.ts';
import { firstErrorLine, kill, MAX_STDERR, run, start, Tail, waitUntil } from './command.ts';
import { startFileExport } from './file-export.ts';
import type { EngineImage } from './inspect.ts';

/**
 * The pid is written before the FIFO is opened, which waits for a reader; `exec` keeps that pid for the tool itself. No
 * input: a tool that asks something would wait for its answer for ever.
 */
const SCRIPT = 'echo $$ >"$0.pid" && exec "$@" >"$0" </dev/null';

/**
 * Saves an image by its ID, so that a tag moved since `inspect` can't change what is read. Podman's docker-archive
 * format is the one that it writes without compressing. Throws ImageError when the export can't be started.
 */
export async function saveStream(
  image: EngineImage,
  options: OpenOptions,
  system: System = process.platform,
): Promise<StreamSource> {
  const format = image.engine === 'podman' ? ['--format', 'docker-archive'] : [];
  const command = [image.tool, 'save', ...format, image.imageId] as const;
  const asked = { ...image, diffIds: await image.layers() };
  options.debug(`reading ${command.join(' ')}`);
  if (!hasFifos(system)) {
    options.notice(
      `Windows has no FIFO: ${image.engine} save writes all of the image to a temporary file before it is read`,
    );
    const toFile = await startFileExport(`${image.engine} save`, command, image.env);
    return new ArchiveStream(`${image.engine} save`, toFile, asked, options.signal);
  }
  const exporter = await startExport(`${image.engine} save`, command, image.env, options.signal);
  return new ArchiveStream(`${image.engine} save`, exporter, asked, options.signal);
}

/** Starts a command whose output is read through a FIFO of its own. */
export async function startExport(
  name: string,
  command: readonly string[],
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<Exporter> {
  const folder = await mkdtemp(join(tmpdir(), 'chunked-push-save-'));
  try {
    const fifo = join(folder, 'archive');
    const made = await run('mkfifo', ['-m', '600', fifo], { env, signal });
    if (made.code !== 0) throw new ImageError('Export', `mkfifo failed: ${firstErrorLine(made.stderr)}`);
    return new FifoExport(name, command, env, folder, fifo);
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

class FifoExport implements Exporter {
  readonly input: SocketInput;
  readonly finished: Promise<void>;
  readonly #folder: string;
  readonly #fifo: string;
  readonly #ended: Promise<number>;
  #over = false;
  #stopped: Promise<void> | undefined;

  constructor(name: string, command: readonly string[], env: NodeJS.ProcessEnv, folder: string, fifo: string) {
    this.#folder = folder;
    this.#fifo = fifo;
    // Non-blocking: opening does not wait for a writer, and a tool that never comes can't hang us.
    const fd = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
    this.input = new SocketInput((onread) => new Socket({ fd, readable: true, writable: false, onread }));
    const stderr = new Tail(MAX_STDERR);
    const listeners = { stderr: (data: Buffer) => stderr.write(data) };
    this.#ended = start('sh', ['-c', SCRIPT, fifo, ...command], { env, listeners });
    this.finished = this.#finish(name, stderr);
    this.finished.catch((error) => this.input.destroy(error));
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #finish(name: string, stderr: Tail): Promise<void> {
    const code = await this.#ended.finally(() => {
      this.#over = true;
    });
    if (code === 0) return this.#endInput();
    if (this.#stopped) throw new Error(`${name} was stopped`);
    const message = firstErrorLine(stderr.toString());
    throw new ImageError('Export', `${name} failed with exit code ${code}${message ? `: ${message}` : ''}`, {
      remedy:
        'see the log of the container engine; its disk may be full, since classic stores write a copy of the image first',
    });
  }

  /**
   * A FIFO ends for its reader when a writer has come and gone. One that ends well without writing is seen this way
   * too.
   */
  #endInput(): void {
    try {
      closeSync(openSync(this.#fifo, constants.O_WRONLY | constants.O_NONBLOCK));
    } catch {
      // The reader has gone already.
    }
  }

  async #stop(): Promise<void> {
    if (!this.#over) {
      const pid = await waitUntil(() => this.#pid(), this.#ended);
      // Whatever the tool has started, and is still writing to us, ends by a broken pipe.
      this.input.destroy();
      if (pid !== undefined && !this.#over) await kill(pid, this.#ended);
    }
    await this.#ended.catch(() => {});
    this.input.destroy();
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #pid(): Promise<number | undefined> {
    const text = await readFile(`${this.#fifo}.pid`, 'utf8').catch(() => '');
    return /^\d+\n$/.test(text) ? Number(text) : undefined;
  }
}

// Reads a pipe or socket into the reader's own memory, and only while the reader wants bytes.

/** Bytes of room for what arrives while no read is waiting, and for small reads; all of it is copied once more. */
const AHEAD_BYTES = 16 * 1024;

/**
 * Node's own streams allocate memory for every read, mostly of 32 KiB here, and pass each chunk through several queues:
 * that took 2 CPU seconds more for an image of 1.7 GB. The reads wait in epoll, not in a thread of libuv's pool.
 */
export class SocketInput implements ByteInput {
  /** Resolves when all was read to the end, rejects when the socket was closed before that. */
  readonly ended: Promise<void>;
  readonly #socket: Socket;
  readonly #ahead = Buffer.allocUnsafeSlow(AHEAD_BYTES);
  /** What is in it and was not taken yet. */
  #waiting = this.#ahead.subarray(0, 0);
  /** What is to be filled, and how much of it is. */
  #into: Uint8Array | undefined;
  #filled = 0;
  #turn: PromiseWithResolvers<number> | undefined;
  #over = false;

  /** `open` makes the socket with these options. */
  constructor(open: (onread: OnReadOpts) => Socket) {
    const end = Promise.withResolvers<void>();
    this.ended = end.promise;
    this.ended.then(
      () => this.#turn?.resolve(this.#filled),
      (error) => this.#turn?.reject(error),
    );
    this.#socket = open({ buffer: () => this.#room(), callback: (count, into) => this.#came(count, into) });
    // `close` follows, and reports the error.
    this.#socket.on('error', () => {});
    this.#socket.once('end', () => {
      this.#over = true;
      end.resolve();
    });
    this.#socket.once('close', () => {
      this.#over = true;
      end.reject(this.#socket.errored ?? new Error('it was closed before its end'));
    });
  }

  get over(): boolean {
    return this.#over || this.#socket.destroyed;
  }

  async fill(into: Uint8Array): Promise<number> {
    this.#into = into;
    this.#filled = 0;
    if (this.#takeWaiting()) return into.length;
    this.#turn = Promise.withResolvers();
    if (this.over) this.ended.then(() => this.#turn?.resolve(this.#filled), this.#turn.reject);
    else this.#socket.resume();
    return this.#turn.promise;
  }

  destroy(error?: Error): void {
    this.#socket.destroy(error);
  }

  /** Where the next bytes go. */
  #room(): Uint8Array {
    return this.#into ? this.#into.subarray(this.#filled) : this.#ahead;
  }

  /** Bytes have arrived; returns whether more are wanted. */
  #came(count: number, into: Uint8Array): boolean {
    if (into.buffer === this.#ahead.buffer) this.#waiting = this.#ahead.subarray(0, count);
    else this.#filled += count;
    if (!this.#takeWaiting()) return this.#into !== undefined;
    this.#turn?.resolve(this.#filled);
    return false;
  }

  /** Moves what waits to where it is wanted; returns whether that is full now. */
  #takeWaiting(): boolean {
    if (!this.#into) return false;
    const part = this.#waiting.subarray(0, this.#into.length - this.#filled);
    this.#into.set(part, this.#filled);
    this.#waiting = this.#waiting.subarray(part.length);
    this.#filled += part.length;
    if (this.#filled < this.#into.length) return false;
    this.#into = undefined;
    return true;
  }
}
