/** Credential helpers: programs that keep secrets. https://github.com/docker/docker-credential-helpers#development */

import { setTimeout as sleep } from 'node:timers/promises';
import { type Credentials, CredentialsError, fromPair } from './credentials.ts';

/** A helper may ask a cloud's API for a token; one that waits for a human never ends. */
const HELPER_MS = 30_000;

/** The words of errCredentialsNotFound in docker-credential-helpers, `credentials/error.go`. */
const NOT_FOUND = /credentials not found/i;

/** Part of a program's name: nothing that would lead elsewhere than PATH. */
const HELPER_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

export interface HelperOptions {
  /** What follows `docker-credential-`. */
  readonly name: string;
  /** The server, as the helper knows it. */
  readonly server: string;
  readonly env: NodeJS.ProcessEnv;
  /** Milliseconds until the helper counts as hanging. */
  readonly timeout?: number;
}

/** Asks a helper for the credentials of a server; undefined when it has none. Throws CredentialsError when it can't be asked. */
export async function askHelper(options: HelperOptions): Promise<Credentials | undefined> {
  const program = `docker-credential-${options.name}`;
  if (!HELPER_NAME.test(options.name)) throw helperError(program, 'is no name of a program');
  const { code, output } = await run(program, options);
  if (code === 0) return readAnswer(program, output);
  if (NOT_FOUND.test(output)) return undefined;
  throw helperError(program, `failed with exit code ${code}${firstLine(output)}`);
}

async function run(program: string, options: HelperOptions): Promise<{ code: number; output: string }> {
  const { env, server, timeout = HELPER_MS } = options;
  const { exec } = await import('@actions/exec');
  const pieces: Buffer[] = [];
  const running = exec(program, ['get'], {
    silent: true,
    ignoreReturnCode: true,
    env: definedOnly(env),
    input: Buffer.from(server),
    listeners: { stdout: (piece) => pieces.push(piece) },
  });
  const timer = new AbortController();
  // @actions/exec has no time-out and gives no process to end: a hanging helper is left behind, and said so.
  const late = sleep(timeout, 'late' as const, { signal: timer.signal, ref: false }).catch(() => 'late' as const);
  try {
    const code = await Promise.race([running, late]);
    if (code === 'late') throw helperError(program, `did not answer within ${timeout / 1000} s`);
    return { code, output: Buffer.concat(pieces).toString('utf8') };
  } catch (error) {
    if (error instanceof CredentialsError) throw error;
    throw helperError(program, `could not be run: ${(error as Error).message}`, error);
  } finally {
    timer.abort();
  }
}

const definedOnly = (env: NodeJS.ProcessEnv): Record<string, string> =>
  Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined));

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

/** A helper says on stdout what is wrong. */
function firstLine(output: string): string {
  const line = output.trim().split('\n', 1)[0]?.slice(0, 200) ?? '';
  return line === '' ? '' : `: ${line}`;
}

const helperError = (program: string, what: string, cause?: unknown): CredentialsError =>
  new CredentialsError(
    `credential helper ${program} ${what}`,
    'set username and password, or repair the credsStore or credHelpers entry in the Docker config file',
    cause,
  );
