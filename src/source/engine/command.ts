/**
 * Running an engine's command-line tool through @actions/exec (loaded for the first of them), silently, and reading its
 * answer.
 */

import { untilAborted } from '../../common/async.ts';
import { ImageError } from '../../common/error.ts';
import { findProgram, pathsOf } from '../../common/platform.ts';

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

/**
 * Sends SIGTERM to a process, and SIGKILL if it is still there after three seconds. `ended` settles when it is gone.
 */
export async function kill(pid: number, ended: Promise<unknown>): Promise<void> {
  signalProcess(pid, 'SIGTERM');
  const timer = setTimeout(() => signalProcess(pid, 'SIGKILL'), KILL_AFTER_MS);
  await ended.catch(() => {});
  clearTimeout(timer);
}

/**
 * The first line of what a tool wrote to its stderr: what it says of itself, for a message. Podman logs warnings before
 * it (`time="…" level=warning …`, of a rootless set-up for example), which count only when there is nothing else.
 */
export function firstErrorLine(stderr: string): string {
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

/**
 * Why an engine has returned no image, and what the user can do about it: an engine that does not answer is not one
 * that lacks the image.
 */
export interface NoImage {
  readonly engine: EngineName;
  readonly why: 'not installed' | 'no such image' | 'unreachable' | 'failed';
  /** What the engine's own tool printed. */
  readonly message: string;
}

/** moby: "No such image", "No such object"; Podman: "image not known", "unable to find". */
const NO_SUCH_IMAGE = /no such (image|object)\b|image not known|unable to find/i;

/** A kind of trouble on the way to the engine, by the messages of docker's and podman's commands, and its remedy. */
const OBSTACLES: readonly { readonly pattern: RegExp; remedy(engine: EngineName): string }[] = [
  {
    // docker/cli: `context "x": context not found`, `current context "x" is not found on the file system`.
    pattern: /\bcontext\b.*\b(not found|does not exist)|load context|unable to resolve docker endpoint: context/i,
    remedy: () =>
      'DOCKER_CONTEXT or `docker context use` names a context that is not there: choose one of `docker context ls`, or set DOCKER_CONTEXT=default',
  },
  {
    pattern: /\b(ca|cert|key)\.pem\b|x509|certificate|\btls\b|https? (response|request)|http: server gave/i,
    remedy: () =>
      'the TLS settings do not fit: check DOCKER_HOST, DOCKER_TLS_VERIFY, and ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH',
  },
  {
    pattern: /permission denied|operation not permitted|access is denied/i,
    remedy: (engine) =>
      engine === 'docker'
        ? 'this user may not use its socket: add it to the group that owns the socket (`sudo usermod -aG docker USER`, then log in again), or run the job as a user who is in it'
        : 'this user may not read its storage: run the job as the user who built the image',
  },
  {
    pattern: /client version .* is too (new|old)|api version/i,
    remedy: () => 'the docker command and its engine are of versions that do not fit: update the older one',
  },
  {
    pattern:
      /cannot connect|failed to connect|error during connect|\bdial\b|connection refused|connection reset|no such host|i\/o timeout|failed to initialize|is the docker daemon running|connect to (the )?podman|no answer within|protocol not available|unable to parse docker host/i,
    remedy: (engine) =>
      engine === 'docker'
        ? 'start it (`docker info` must work in the same step), and check DOCKER_HOST; a container job needs the socket /var/run/docker.sock mounted'
        : 'start it (`podman info` must work in the same step), and check CONTAINER_HOST and `podman system connection list`',
  },
];

const obstacleIn = (text: string) => OBSTACLES.find(({ pattern }) => pattern.test(text));

/** What a failed `image inspect` means. */
export function refusalOf(engine: EngineName, { code, stderr }: Answer): NoImage {
  const message = firstErrorLine(stderr) || `${engine} image inspect ended with exit code ${code}`;
  // The message about a missing image comes from the engine itself: it was reached.
  if (NO_SUCH_IMAGE.test(stderr)) return { engine, why: 'no such image', message };
  return { engine, why: obstacleIn(stderr) ? 'unreachable' : 'failed', message };
}

/**
 * What to do when no engine has the image. An engine that did not answer comes first: it may have the image, whatever
 * the other one says. GitHub's runners have Podman beside Docker.
 */
export function remedyFor(refusals: readonly NoImage[]): string {
  const unreachable = refusals.find(({ why }) => why === 'unreachable');
  if (unreachable) {
    const { engine, message } = unreachable;
    const name = engine === 'docker' ? 'Docker' : 'Podman';
    return `${name} did not answer: ${obstacleIn(message)?.remedy(engine) ?? `\`${engine} info\` must work in the same step`}`;
  }
  if (refusals.some(({ why }) => why === 'no such image'))
    return 'build or pull it first (with docker/build-push-action: load: true), and check its name with docker images';
  const failed = refusals.find(({ why }) => why === 'failed');
  if (failed) return `\`${failed.engine} image inspect\` must work in the same step: check the image's name there`;
  return 'install docker or podman and start it, or push from a file: docker-archive:FILE, oci-archive:FILE, oci:DIR';
}
