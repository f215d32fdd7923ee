/**
 * What the step says to the runner: lines of the job's log, with secrets masked before anything else; outputs, state
 * and job summary; its one error.
 */

import { appendFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as core from '@actions/core';
import { debug, error, info, notice, setFailed, warning } from '@actions/core';
import type { SavePlan } from '../cache/save.ts';
import { CancelledError, explainLine } from '../common/error.ts';
import { readRegularSync } from '../common/open-regular.ts';
import { oneLine, plainLines, printable } from '../common/printable.ts';
import type { PushEvent, Report } from '../push/events.ts';
import type { PushResult } from '../push/result.ts';
import { EventLines } from '../report/lines.ts';
import { summaryOf } from '../report/summary.ts';

/**
 * Where both steps keep files. The same in every run on the same kind of runner: the Actions cache keeps files under
 * their paths.
 */
export const workDir = (): string => join(process.env.RUNNER_TEMP || tmpdir(), 'chunked-push');

// The events of a push in the job's log: a group for each phase, lines inside it.

export interface Log {
  readonly report: Report;
  /** Whether a secret was masked: the push has credentials for a registry. */
  readonly hasSecrets: boolean;
  /** Ends the last group. */
  close(): void;
}

/** `showHost`: each line names its registry, for a push to several. */
export function openLog(options: { showHost: boolean }): Log {
  const lines = new EventLines(options);
  let group: string | undefined;
  let hasSecrets = false;
  const close = () => {
    if (group !== undefined) core.endGroup();
    group = undefined;
  };
  const report = (event: PushEvent) => {
    if (event.type === 'secret') {
      hasSecrets = true;
      return core.setSecret(event.value);
    }
    if (event.type === 'phase' && event.phase !== group) {
      close();
      core.startGroup(event.phase);
      group = event.phase;
    }
    for (const { level, text } of lines.of(event)) print(level, text);
  };
  return {
    report,
    close,
    get hasSecrets() {
      return hasSecrets;
    },
  };
}

/**
 * The runner's command stream. Everything that the action prints is read by the runner line by line, and a line may be
 * a command: each text is made harmless (`printable`, `plainLines`) here, the only place that prints.
 */
type Level = 'debug' | 'info' | 'notice' | 'warning' | 'error';

const ANNOTATIONS = { debug, notice, warning, error };

/** Prints a text: plain lines for `info`, for the others one annotation, which may have several lines. */
export function print(level: Level, text: string): void {
  if (level === 'info') info(plainLines(text));
  else ANNOTATIONS[level](printable(text));
}

/** The step's one error: an annotation, and the exit code 1. */
const printFailure = (text: string): void => setFailed(printable(text));

/**
 * Whatever a library writes by `console` becomes debug lines: @actions/io reports folders of PATH that it may not
 * enter, with their names.
 */
export function captureConsole(): void {
  for (const method of ['log', 'info', 'warn', 'error', 'debug'] as const) {
    console[method] = (...values: unknown[]) => print('debug', values.map(String).join(' '));
  }
}

// Outputs, state, and the job summary.

/** The state's name under which the main step leaves the post step what to save. */
export const SAVE_PLAN = 'save-plan';

/**
 * Sets the outputs. Those that name what was pushed only when every destination has confirmed the manifest; `metadata`
 * always, since it says which of them did.
 */
export function writeOutputs(result: PushResult): void {
  const { digest, digests, changed, image, imageId, metadata, failures, savePlan } = result;
  core.setOutput('metadata', JSON.stringify(metadata));
  core.setOutput('imageid', imageId);
  for (const tag of metadata.tags) if (tag.digest) print('info', `${tag.reference}: ${tag.digest}`);
  if (digest && image && failures.length === 0) {
    core.setOutput('digest', digest);
    core.setOutput('image', image);
    core.setOutput('digests', JSON.stringify(digests));
    core.setOutput('changed', String(changed));
    writeArtifacts(result);
    print('info', `Pushed ${image}`);
  }
  if (savePlan) core.saveState(SAVE_PLAN, JSON.stringify(savePlan));
  writeSummary(result);
}

/**
 * A line for each pushed reference in the file of $GITHUB_ARTIFACTS (https://github.com/actions/runner/pull/4527), from
 * which `actions/attest` takes its subjects. Runners without it do not set the variable.
 */
function writeArtifacts({ digests }: PushResult): void {
  const lines = Object.entries(digests).map(([reference, digest]) => `oci://${reference}@${digest}\n`);
  append('GITHUB_ARTIFACTS', lines.join(''), 'list of artifacts');
}

const writeSummary = (result: PushResult): void =>
  append('GITHUB_STEP_SUMMARY', `${summaryOf(result)}\n`, 'job summary');

/**
 * Appends to the file that a variable names, as @actions/core writes outputs; its summary takes four times as long. A
 * runner without the variable (an old one, another CI's emulation) is no reason to fail.
 */
function append(variable: string, text: string, what: string): void {
  const file = process.env[variable];
  if (!file) return;
  try {
    appendFileSync(file, text);
  } catch (error) {
    print('warning', `The ${what} could not be written: ${(error as Error).message}`);
  }
}

/** The push failed: one error whose first line has all that matters, and the causes beneath it. */
export function fail(error: unknown): void {
  printFailure([explainLine(error), ...causesOf(error)].join('\n'));
}

/** Some destinations failed (or all of several): one error that names them, and says whether others are done. */
export function failPartly({ failures, metadata }: PushResult): void {
  const lines = failures.map(({ destination, error }) => `${destination}: ${explainLine(error)}`);
  const someDone = metadata.tags.some(({ digest }) => digest !== undefined);
  printFailure(
    [...lines, ...(someDone ? ['The other destinations were pushed: see the metadata output'] : [])].join('\n'),
  );
}

function causesOf(error: unknown): string[] {
  // What broke while everything was being closed adds nothing.
  if (error instanceof CancelledError) return [];
  const causes: string[] = [];
  for (let cause = (error as Error)?.cause; cause instanceof Error && causes.length < 5; cause = cause.cause) {
    causes.push(`  caused by: ${oneLine(cause.message.split('\n', 1)[0] ?? '')}`);
  }
  return causes;
}

/**
 * The notice for a push that leaves layers for the Actions cache, from a public repository to a registry that has our
 * credentials; undefined for any other. Anyone may open a pull request there, and a workflow that it starts may restore
 * every entry of its base branch:
 * https://docs.github.com/actions/reference/workflows-and-actions/dependency-caching#restrictions-for-accessing-a-cache
 * `env`: the runner's (GITHUB_EVENT_PATH).
 */
export function privateLayersNotice(
  env: NodeJS.ProcessEnv,
  { savePlan, usesCredentials }: { savePlan: SavePlan | undefined; usesCredentials: boolean },
): string | undefined {
  const isSaved = (savePlan?.layers.length ?? 0) > 0;
  if (!isSaved || !usesCredentials || !isPublic(env.GITHUB_EVENT_PATH)) return undefined;
  return (
    'The layers of this image are kept in the Actions cache of a public repository, where workflows of pull requests can read ' +
    'them. If the image is private, set cache: false'
  );
}

/** GitHub's own limit for the payload of an event is 25 MB. */
const LONGEST_EVENT_BYTES = 32 * 2 ** 20;

/** Whether the event that started the workflow says that its repository is public; no without an event. */
function isPublic(eventFile: string | undefined): boolean {
  if (!eventFile) return false;
  try {
    const event: unknown = JSON.parse(readRegularSync(eventFile, LONGEST_EVENT_BYTES).toString('utf8'));
    const { repository } = event as { repository?: { private?: unknown; visibility?: unknown } };
    // Older GitHub Enterprise Servers have no `visibility`.
    return repository?.private === false && (repository.visibility ?? 'public') === 'public';
  } catch {
    return false;
  }
}
