/** The action's outputs, its job summary, and its one error. */

import { appendFileSync } from 'node:fs';
import * as core from '@actions/core';
import type { SavePlan } from '../cache/save.ts';
import { CancelledError, explainLine } from '../common/error.ts';
import { readRegularSync } from '../common/open-regular.ts';
import { oneLine } from '../common/printable.ts';
import type { PushResult } from '../push/result.ts';
import { summaryOf } from '../report/summary.ts';
import { print, printFailure } from './log.ts';
import { SAVE_PLAN } from './post.ts';

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
