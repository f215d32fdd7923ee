/**
 * `docker save` and `podman save` through a temporary file, for Windows: it has no FIFO. All of the image lies on the
 * disk before its first byte is read, which the log says.
 */
import { spawn } from 'node:child_process';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ImageError } from '../../common/error.ts';
import type { ByteInput } from '../archive/entry.ts';
import type { Exporter } from '../archive/stream.ts';
import { firstErrorLine, kill, MAX_STDERR, Tail } from './command.ts';

/** Windows refuses to remove a file that a virus scanner looks at; a moment later it does not. */
const REMOVE = { recursive: true, force: true, maxRetries: 10 } as const;

/**
 * Starts `tool ARGS --output FILE`. Throws when the temporary folder can't be made; a failure of the tool rejects
 * `finished`.
 */
export async function startFileExport(
  name: string,
  [tool, ...args]: readonly [string, ...string[]],
  env: NodeJS.ProcessEnv,
): Promise<Exporter> {
  const folder = await mkdtemp(join(tmpdir(), 'chunked-push-save-'));
  return new FileExport(name, tool, args, env, folder);
}

class FileExport implements Exporter {
  readonly input: FileInput;
  readonly finished: Promise<void>;
  readonly #folder: string;
  readonly #pid: number | undefined;
  readonly #ended: Promise<number>;
  #isOver = false;
  #stopped: Promise<void> | undefined;

  constructor(name: string, tool: string, args: readonly string[], env: NodeJS.ProcessEnv, folder: string) {
    this.#folder = folder;
    const file = join(folder, 'archive');
    const child = spawn(tool, [...args, '--output', file], {
      env,
      stdio: ['ignore', 'ignore', 'pipe'],
      windowsHide: true,
    });
    this.#pid = child.pid;
    const stderr = new Tail(MAX_STDERR);
    child.stderr.on('data', (data: Buffer) => stderr.write(data));
    this.#ended = new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code) => resolve(code ?? -1));
    }).finally(() => {
      this.#isOver = true;
    });
    this.finished = this.#finish(name, stderr);
    this.finished.catch(() => {});
    this.input = new FileInput(file, this.finished);
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #finish(name: string, stderr: Tail): Promise<void> {
    const code = await this.#ended.catch((cause: Error) => {
      throw new ImageError('Export', `${name} could not be started: ${cause.message}`, { cause });
    });
    if (code === 0) return;
    if (this.#stopped) throw new Error(`${name} was stopped`);
    const message = firstErrorLine(stderr.toString());
    throw new ImageError('Export', `${name} failed with exit code ${code}${message ? `: ${message}` : ''}`, {
      remedy: `see the log of the container engine; the disk of ${this.#folder} must have room for the whole image`,
    });
  }

  async #stop(): Promise<void> {
    if (this.#pid !== undefined && !this.#isOver) await kill(this.#pid, this.#ended);
    await this.#ended.catch(() => {});
    await this.input.close();
    await rm(this.#folder, REMOVE).catch(() => {});
  }
}

/** A file that is read from its beginning to its end, once `ready` resolves. */
class FileInput implements ByteInput {
  readonly #file: Promise<FileHandle>;
  #over = false;

  constructor(path: string, ready: Promise<void>) {
    this.#file = ready.then(() => open(path));
    this.#file.catch(() => {
      this.#over = true;
    });
  }

  get over(): boolean {
    return this.#over;
  }

  async fill(into: Uint8Array): Promise<number> {
    const file = await this.#file;
    let filled = 0;
    while (filled < into.length) {
      const { bytesRead } = await file.read(into, filled, into.length - filled);
      if (bytesRead === 0) {
        this.#over = true;
        break;
      }
      filled += bytesRead;
    }
    return filled;
  }

  async close(): Promise<void> {
    this.#over = true;
    await this.#file.then(
      (file) => file.close(),
      () => {},
    );
  }
}
