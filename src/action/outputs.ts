/** The action's outputs, its job summary, and its one error. */

import { appendFileSync } from 'node:fs';
import * as core from '@actions/core';
import { CancelledError, explainLine } from '../push/error.ts';
import type { PushResult } from '../push/result.ts';
import { summaryOf } from '../report/summary.ts';

/** The state's name under which the main step leaves the post step what to save. */
export const SAVE_PLAN = 'save-plan';

/**
 * Sets the outputs. `digest` and `image` only when every destination has confirmed the manifest; `metadata` always,
 * since it tells which ones did.
 */
export function writeOutputs(result: PushResult): void {
  const { digest, image, imageId, metadata, failures, savePlan } = result;
  core.setOutput('metadata', JSON.stringify(metadata));
  core.setOutput('imageid', imageId);
  for (const tag of metadata.tags) if (tag.digest) core.info(`${tag.reference}: ${tag.digest}`);
  if (digest && image && failures.length === 0) {
    core.setOutput('digest', digest);
    core.setOutput('image', image);
    core.info(`Pushed ${image}`);
  }
  if (savePlan) core.saveState(SAVE_PLAN, JSON.stringify(savePlan));
  writeSummary(result);
}

/** A runner without summaries (an old one, another CI's emulation) is no reason to fail. */
function writeSummary(result: PushResult): void {
  const { GITHUB_STEP_SUMMARY: file } = process.env;
  if (!file) return;
  try {
    // As core writes the outputs; its summary takes a thread four times to do it.
    appendFileSync(file, `${summaryOf(result)}\n`);
  } catch (error) {
    core.warning(`The job summary could not be written: ${(error as Error).message}`);
  }
}

/** The push failed: one error whose first line says it all, and the causes beneath it. */
export function fail(error: unknown): void {
  core.setFailed([explainLine(error), ...causesOf(error)].join('\n'));
}

/** Some destinations failed (or all of several): one error that names them, and says whether others are done. */
export function failPartly({ failures, metadata }: PushResult): void {
  const lines = failures.map(({ destination, error }) => `${destination}: ${explainLine(error)}`);
  const someDone = metadata.tags.some(({ digest }) => digest !== undefined);
  core.setFailed(
    [...lines, ...(someDone ? ['The other destinations were pushed: see the metadata output'] : [])].join('\n'),
  );
}

function causesOf(error: unknown): string[] {
  // Whatever broke while everything was being torn down is no news.
  if (error instanceof CancelledError) return [];
  const causes: string[] = [];
  for (let cause = (error as Error)?.cause; cause instanceof Error && causes.length < 5; cause = cause.cause) {
    causes.push(`  caused by: ${cause.message.split('\n', 1)[0]}`);
  }
  return causes;
}
