/** One run of the command: flags, push, output, exit code. */

import { constants } from 'node:fs';
import { access, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import manifest from '../../package.json' with { type: 'json' };
import { CancelledError, explainLine } from '../common/error.ts';
import { cacheFolder, endingSignals } from '../common/platform.ts';
import { plainLines, printableJson } from '../common/printable.ts';
import { examine } from '../push/doctor.ts';
import type { PushEvent, Report } from '../push/events.ts';
import { InputError } from '../push/input-values.ts';
import { type MergeRequest, type PushRequest, parseRequest } from '../push/options.ts';
import { push } from '../push/push.ts';
import type { PushResult } from '../push/result.ts';
import { diagnosisLines, EventLines } from '../report/lines.ts';
import { Bars, paint } from './bars.ts';
import { type Command, parseFlags, UsageError } from './flags.ts';
import { completionOf, USAGE } from './help.ts';

const EXIT = { done: 0, failed: 1, usage: 2, cancelled: 130 } as const;

/** The version of this build, out of package.json. */
const VERSION: string = manifest.version;

/** Runs the command. Returns the exit code; throws nothing. */
export async function runTerminal(args: readonly string[], process: NodeJS.Process): Promise<number> {
  try {
    const command = parseFlags(args);
    const text = textOf(command);
    if (text !== undefined) return print(text, process);
    // Standard output is for the result alone; @actions/io writes there about folders in PATH that it may not enter.
    console.log = command.verbose ? console.error : () => {};
    const password = await passwordOf(command, process);
    const raw = { ...command.inputs, password };
    const surroundings = { env: process.env, workDir: cacheFolder(process.env), remoteCache: false };
    const request = parseRequest(raw, surroundings);
    if (command.doctor) return await examineAndReport(request, command, process);
    if (request.dryRun) return await pushAndReport(request, command, process);
    const folder = await openWorkFolder(process.env);
    try {
      if (folder.reason !== undefined)
        process.stderr.write(`${paint('notice', process.stderr)} ${plainLines(folder.reason)}\n`);
      return await pushAndReport({ ...request, workDir: folder.path }, command, process);
    } finally {
      await folder.close();
    }
  } catch (error) {
    return complain(error, process);
  }
}

/** What is printed instead of a push. */
function textOf({ show, completion }: Command): string | undefined {
  if (completion !== undefined) return completionOf(completion);
  return show === 'usage' ? USAGE : show === 'version' ? `${VERSION}\n` : undefined;
}

function print(text: string, { stdout }: NodeJS.Process): number {
  stdout.write(text);
  return EXIT.done;
}

async function pushAndReport(
  request: PushRequest | MergeRequest,
  command: Command,
  process: NodeJS.Process,
): Promise<number> {
  const display = openDisplay(request, command, process);
  const result = await push(request, display.report, interruption(process)).finally(() => display.close());
  writeResult(result, command, process);
  return result.failures.length > 0 ? EXIT.failed : EXIT.done;
}

/** A signal that is aborted by Ctrl+C and the like. */
function interruption(process: NodeJS.Process): AbortSignal {
  const cancel = new AbortController();
  const stop = () => cancel.abort(new Error('interrupted'));
  for (const signal of endingSignals()) process.once(signal, stop);
  return cancel.signal;
}

/** The diagnosis on standard output; exit code 1 when a push to there would fail. */
async function examineAndReport(
  request: PushRequest | MergeRequest,
  command: Command,
  process: NodeJS.Process,
): Promise<number> {
  const display = openDisplay(request, command, process);
  const cancel = interruption(process);
  const [reference] = request.destinations;
  const diagnosis = await examine(reference!, request, display.report, cancel)
    .catch((error: unknown) => {
      throw cancel.aborted ? new CancelledError(error) : error;
    })
    .finally(() => display.close());
  const text = command.json ? printableJson(diagnosis) : plainLines(diagnosisLines(diagnosis).join('\n'));
  process.stdout.write(`${text}\n`);
  return diagnosis.problem === undefined ? EXIT.done : EXIT.failed;
}

/**
 * What names the pushed image is printed only when every destination has confirmed it; `metadata` says which of them
 * did.
 */
function writeResult(result: PushResult, { json }: Command, { stdout, stderr }: NodeJS.Process): void {
  const { digest, digests, changed, imageId, image, metadata, failures } = result;
  const isDone = failures.length === 0;
  if (json) {
    const pushed = isDone ? { digest, image, digests, changed } : {};
    stdout.write(`${printableJson({ ...pushed, imageid: imageId, metadata })}\n`);
  } else if (image && isDone) stdout.write(`${image}\n`);
  for (const { destination, error } of failures) {
    stderr.write(`${paint('error', stderr)} ${plainLines(`${destination}: ${explainLine(error)}`)}\n`);
  }
}

/** Bars where a person looks on, lines everywhere else. Both on standard error: standard output is for the result. */
function openDisplay(
  request: PushRequest | MergeRequest,
  { verbose }: Command,
  { stderr, env }: NodeJS.Process,
): { report: Report; close(): void } {
  const showHost = new Set(request.destinations.map(({ registry }) => registry)).size > 1;
  // A terminal that is dumb can't move its cursor: Emacs's shell, some CI systems.
  if (stderr.isTTY && env.TERM !== 'dumb') {
    const bars = new Bars(stderr, { showHost, verbose });
    return { report: (event) => bars.show(event), close: () => bars.close() };
  }
  const lines = new EventLines({ showHost });
  const report = (event: PushEvent) => {
    for (const { level, text } of lines.of(event)) {
      if (level === 'debug' && !verbose) continue;
      const head = level === 'notice' || level === 'warning' ? `${paint(level, stderr)} ` : '';
      stderr.write(`${head}${plainLines(text)}\n`);
    }
  };
  return { report, close: () => {} };
}

function complain(error: unknown, process: NodeJS.Process): number {
  const text = plainLines(error instanceof UsageError ? error.message : explainLine(error));
  process.stderr.write(`${paint('error', process.stderr)} ${text}\n`);
  if (error instanceof UsageError) process.stderr.write('Run chunked-push --help for the usage.\n');
  if (error instanceof UsageError || error instanceof InputError) return EXIT.usage;
  return error instanceof CancelledError ? EXIT.cancelled : EXIT.failed;
}

/** A password and a user name belong together. */
async function passwordOf({ inputs, passwordFromStdin }: Command, { stdin }: NodeJS.Process): Promise<string> {
  const hasName = inputs.username !== undefined;
  if (passwordFromStdin && !hasName) throw new UsageError('--password-stdin needs --username NAME');
  if (hasName && !passwordFromStdin)
    throw new UsageError('--username needs --password-stdin: the password is read from standard input');
  return passwordFromStdin ? await readPassword(stdin) : '';
}

/** One line, as `docker login --password-stdin` takes it: the line's end is not part of the password. */
async function readPassword(stdin: NodeJS.ReadStream): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stdin) chunks.push(Buffer.from(chunk));
  const password = Buffer.concat(chunks)
    .toString('utf8')
    .replace(/\r?\n$/, '');
  if (password === '') throw new UsageError('--password-stdin: standard input holds no password');
  return password;
}

/** Where the command keeps layers for the next push, or for this one alone. */
interface WorkFolder {
  readonly path: string;
  /** Why it is not the one that lasts; undefined when it is. */
  readonly reason?: string;
  close(): Promise<void>;
}

/**
 * The cache folder of this user. A user without a home, or with one that can't be written (containers of CI systems),
 * gets a temporary folder that goes with this push; where that can't be made either, the push says so itself.
 */
async function openWorkFolder(env: NodeJS.ProcessEnv): Promise<WorkFolder> {
  const path = cacheFolder(env);
  const lasting = { path, close: async () => {} };
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    await access(path, constants.W_OK | constants.X_OK);
    return lasting;
  } catch (error) {
    const temporary = await mkdtemp(join(tmpdir(), 'chunked-push-')).catch(() => undefined);
    if (temporary === undefined) return lasting;
    const reason = `${path} can't be written (${(error as NodeJS.ErrnoException).code}): no layers are kept for the next push`;
    return { path: temporary, reason, close: () => rm(temporary, { recursive: true, force: true }) };
  }
}

/** The two streams that the command writes to, which may end or fail before it does. */
interface Output {
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
  /** Why the result could not be written; undefined while it could. */
  failure: NodeJS.ErrnoException | undefined;
}

/**
 * Keeps a push going whose lines can no longer be written: the reader has gone (`2>&1 | head -1`), the disk of the log
 * is full. The result on standard output is another matter: see `flushed`.
 */
export function watchOutput({ stdout, stderr }: Pick<NodeJS.Process, 'stdout' | 'stderr'>): Output {
  const output: Output = { stdout, stderr, failure: undefined };
  stderr.on('error', () => {});
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    output.failure ??= error;
  });
  return output;
}

/**
 * Waits until everything is written: `process.exit` drops what a slow reader of a pipe has not taken yet. Resolves to
 * the exit code: that of the command, or 1 where its result is lost. A reader that has closed the pipe wants no more.
 */
export async function flushed(output: Output, code: number): Promise<number> {
  await written(output.stdout);
  const { failure } = output;
  const isLost = failure !== undefined && failure.code !== 'EPIPE';
  if (isLost) output.stderr.write(`error: standard output: ${failure.message}\n`);
  await written(output.stderr);
  return isLost && code === 0 ? 1 : code;
}

/** Resolves when all that was written before is on its way or can't be. */
const written = (stream: NodeJS.WritableStream): Promise<void> =>
  new Promise((resolve) => {
    stream.write('', () => resolve());
  });
