/** What proves who we are to a registry, how it is kept out of logs, and the programs that keep it. */

import { spawn } from 'node:child_process';
import { findProgram } from '../../common/platform.ts';
import { oneLine } from '../../common/printable.ts';

/** At most one way to prove it is set: a password, an identity token or a ready bearer token. */
export interface Credentials {
  /** Where they came from, for messages: "the inputs username and password", "/home/me/.docker/config.json". */
  readonly source: string;
  readonly username?: string;
  readonly password?: string;
  /** An OAuth refresh token: exchanged for access tokens, never shown to the registry itself. */
  readonly identityToken?: string;
  /** A bearer token that is sent to the registry as it is. */
  readonly registryToken?: string;
}

/** Credentials that exist and can't be read: a broken file, a helper program that fails. The message names it. */
export class CredentialsError extends Error {
  override readonly name = 'CredentialsError';
  readonly remedy: string;

  constructor(message: string, remedy: string, cause?: unknown) {
    super(message, { cause });
    this.remedy = remedy;
  }
}

/**
 * The name that a password has when it is an identity token.
 * https://github.com/docker/docker-credential-helpers#development
 */
export const TOKEN_USERNAME = '<token>';

/** The value of an `Authorization: Basic` header (RFC 7617), without the scheme. */
export const basicString = (username: string, password: string): string =>
  Buffer.from(`${username}:${password}`, 'utf8').toString('base64');

/** Username and secret as every store keeps them; the username `<token>` marks an identity token. */
export const fromPair = (source: string, username: string, secret: string): Credentials =>
  username === TOKEN_USERNAME ? { source, identityToken: secret } : { source, username, password: secret };

/** A shorter secret would be cut out of text that only looks like it. */
const SHORTEST_TO_CUT = 4;

/**
 * The secrets of one registry: announced once each, so that they are masked wherever the log goes, and cut out of what
 * a server echoes.
 */
export class Secrets {
  readonly #known = new Set<string>();
  readonly #announce: (secret: string) => void;

  /** `announce` is called once for each secret, before it is used for the first time. */
  constructor(announce: (secret: string) => void) {
    this.#announce = announce;
  }

  /** Takes note of a secret; empty and undefined are none. */
  add(...values: readonly (string | undefined)[]): void {
    for (const value of values) {
      if (value === undefined || value === '' || this.#known.has(value)) continue;
      this.#known.add(value);
      this.#announce(value);
    }
  }

  /** A text with every known secret replaced by three stars. */
  mask(text: string): string {
    let masked = text;
    for (const secret of this.#known) {
      if (secret.length < SHORTEST_TO_CUT) continue;
      for (const spelling of spellingsOf(secret)) masked = masked.replaceAll(spelling, '***');
    }
    return masked;
  }
}

/** As it is, and as it stands in a query or in the body of an OAuth request, should a server repeat that. */
const spellingsOf = (secret: string): Set<string> =>
  new Set([secret, encodeURIComponent(secret), new URLSearchParams([['', secret]]).toString().slice(1)]);

// Credential helpers: programs that keep secrets. https://github.com/docker/docker-credential-helpers#development

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
