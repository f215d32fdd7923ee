/** Running an engine's command-line tool through @actions/exec (loaded for the first of them), silently, and reading its answer. */

import { untilAborted } from '../../common/async.ts';
import { findProgram, pathsOf } from '../../common/platform.ts';
import { ImageError } from '../../oci/error.ts';

export type EngineName = 'docker' | 'podman';

export interface CommandOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
}

/** What a tool answered. Both texts are cut to their last MAX_OUTPUT bytes. */
export interface Answer {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** An `inspect` has some KiB; `info` of a large machine some tens. */
const MAX_OUTPUT = 8 * 1024 * 1024;
/** Enough for any error text; a tool that floods its stderr must not fill the memory. */
export const MAX_STDERR = 16 * 1024;
const POLL_MS = 10;
const KILL_AFTER_MS = 3000;

/** The last bytes of what is written to it. */
export class Tail {
  readonly #limit: number;
  #chunks: Buffer[] = [];
  #length = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  write(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    if (this.#length <= 2 * this.#limit) return;
    this.#chunks = [Buffer.concat(this.#chunks).subarray(-this.#limit)];
    this.#length = this.#limit;
  }

  toString(): string {
    return Buffer.concat(this.#chunks).subarray(-this.#limit).toString('utf8');
  }
}

/**
 * Runs a tool to its end. Any exit code is an answer. Throws ImageError when it can't be started, and the signal's
 * reason when that is aborted first.
 */
export async function run(tool: string, args: readonly string[], options: CommandOptions): Promise<Answer> {
  const stdout = new Tail(MAX_OUTPUT);
  const stderr = new Tail(MAX_STDERR);
  options.signal.throwIfAborted();
  const listeners = { stdout: (data: Buffer) => stdout.write(data), stderr: (data: Buffer) => stderr.write(data) };
  const ended = start(tool, args, { env: options.env, listeners });
  const code = await untilAborted(ended, options.signal);
  return { code, stdout: stdout.toString(), stderr: stderr.toString() };
}

/** Starts a tool through @actions/exec; resolves to its exit code. Throws ImageError when it can't be started. */
export async function start(
  tool: string,
  args: readonly string[],
  options: { env: NodeJS.ProcessEnv; listeners?: { stdout?: (data: Buffer) => void; stderr?: (data: Buffer) => void } },
): Promise<number> {
  try {
    const { exec } = await import('@actions/exec');
    // By its path: @actions/io writes to standard output what it thinks of folders in PATH that it may not enter.
    const path = pathsOf().basename(tool) === tool ? (findProgram(tool, options.env) ?? tool) : tool;
    return await exec(`"${path}"`, [...args], {
      ...options,
      // ProcessEnv has undefined for what is not set; exec's type has not.
      env: options.env as Record<string, string>,
      silent: true,
      ignoreReturnCode: true,
    });
  } catch (cause) {
    throw new ImageError('Export', `${tool} could not be started: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    });
  }
}

/** Sends SIGTERM to a process, and SIGKILL if it is still there after three seconds. `ended` settles when it is gone. */
export async function kill(pid: number, ended: Promise<unknown>): Promise<void> {
  signalProcess(pid, 'SIGTERM');
  const timer = setTimeout(() => signalProcess(pid, 'SIGKILL'), KILL_AFTER_MS);
  await ended.catch(() => {});
  clearTimeout(timer);
}

/**
 * The first line of what a tool wrote to its stderr: what it says of itself, for a message. Podman logs warnings before it
 * (`time="…" level=warning …`, of a rootless set-up for example), which count only when there is nothing else.
 */
export function firstWords(stderr: string): string {
  const lines = stderr.split('\n').filter((text) => text.trim() !== '');
  const line = lines.find((text) => !/^time="[^"]*" level=/.test(text)) ?? lines[0] ?? '';
  return line.trim().replace(/^(error|fatal)( response from daemon)?:\s*/i, '');
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It is gone already.
  }
}

/** Waits until a condition holds or `ended` settles. */
export async function waitUntil<T>(
  probe: () => Promise<T | undefined>,
  ended: Promise<unknown>,
): Promise<T | undefined> {
  let over = false;
  void ended
    .catch(() => {})
    .then(() => {
      over = true;
    });
  for (;;) {
    const value = await probe();
    if (value !== undefined || over) return value;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
