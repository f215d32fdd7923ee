/** One run of the command: flags, push, output, exit code. */

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
import { openWorkFolder } from './work-folder.ts';

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
