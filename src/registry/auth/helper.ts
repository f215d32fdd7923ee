/** Credential helpers: programs that keep secrets. https://github.com/docker/docker-credential-helpers#development */

import { spawn } from 'node:child_process';
import { findProgram } from '../../common/platform.ts';
import { oneLine } from '../../common/printable.ts';
import { type Credentials, CredentialsError, fromPair } from './credentials.ts';

/** A helper may ask a cloud's API for a token; one that waits for a human never ends. */
const HELPER_MS = 30_000;

/** An answer has some hundred bytes; tokens of clouds have some KiB. */
const LONGEST_ANSWER_BYTES = 1024 * 1024;

/** The text of errCredentialsNotFound in docker-credential-helpers, `credentials/error.go`. */
const NOT_FOUND = /credentials not found/i;

/** Part of a program's name: nothing that would lead elsewhere than PATH. */
const HELPER_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

interface HelperOptions {
  /** What follows `docker-credential-`. */
  readonly name: string;
  /** The server, as the helper knows it. */
  readonly server: string;
  readonly env: NodeJS.ProcessEnv;
  /** Milliseconds until the helper counts as hanging. */
  readonly timeout?: number;
}

/**
 * Asks a helper for the credentials of a server; undefined when it has none. Throws CredentialsError when it can't be
 * asked.
 */
export async function askHelper(options: HelperOptions): Promise<Credentials | undefined> {
  const program = `docker-credential-${options.name}`;
  if (!HELPER_NAME.test(options.name)) throw helperError(program, 'is no name of a program');
  const path = findProgram(program, options.env);
  if (path === undefined) throw helperError(program, 'is not installed: it is not in PATH');
  const { code, stdout, stderr } = await run(program, path, options);
  if (code === 0) return readAnswer(program, stdout);
  if (NOT_FOUND.test(stdout)) return undefined;
  // A helper says on stdout what is wrong; a script that is none says it on stderr.
  const message = oneLine(stdout.trim().split('\n', 1)[0] || stderr.trim().split('\n', 1)[0] || '', 200);
  throw helperError(program, `failed with exit code ${code}${message === '' ? '' : `: ${message}`}`);
}

interface Answer {
  /** The exit code, or the signal that ended it. */
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

async function run(
  program: string,
  path: string,
  { env, server, timeout = HELPER_MS }: HelperOptions,
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const notRun = (error: Error): void => reject(helperError(program, `could not be run: ${error.message}`, error));
  let child: ReturnType<typeof spawn>;
  try {
    // On Windows a script (.cmd) needs the shell; the name was checked.
    child = spawn(path, ['get'], { env, stdio: 'pipe', windowsHide: true, shell: /\.(cmd|bat)$/i.test(path) });
  } catch (error) {
    throw helperError(program, `could not be run: ${(error as Error).message}`, error);
  }
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (text: string) => {
      if (output[name].length < LONGEST_ANSWER_BYTES) output[name] += text;
    });
  }
  // A helper that knows only one server need not read which one is meant: the pipe is then closed before it was written
  // to (EPIPE).
  child.stdin?.on('error', () => {}).end(server);
  child.on('error', notRun);
  child.on('close', (code, signal) => resolve({ code: code ?? signal ?? 'unknown', ...output }));
  const timer = setTimeout(() => {
    child.kill('SIGKILL');
    // Its own children may hold its output open.
    for (const stream of [child.stdout, child.stderr]) stream?.destroy();
    reject(helperError(program, `did not answer within ${timeout / 1000} s`));
  }, timeout);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

function readAnswer(program: string, output: string): Credentials | undefined {
  let answer: { Username?: unknown; Secret?: unknown };
  try {
    answer = JSON.parse(output) as typeof answer;
  } catch {
    // The parser's message would quote the secret.
    throw helperError(program, 'did not answer in JSON');
  }
  if (typeof answer?.Secret !== 'string' || typeof answer.Username !== 'string') {
    throw helperError(program, 'answered without Username and Secret');
  }
  return answer.Secret === '' ? undefined : fromPair(program, answer.Username, answer.Secret);
}

const helperError = (program: string, what: string, cause?: unknown): CredentialsError =>
  new CredentialsError(
    `credential helper ${program} ${what}`,
    'set username and password, or repair the credsStore or credHelpers entry in the Docker config file',
    cause,
  );
