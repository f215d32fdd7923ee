/** All cells of the matrix, and many of them at once. */
import pLimit from 'p-limit';
import { type Cell, type Result, runCell } from './cell.ts';
import { KINDS } from './kinds.ts';
import { STEPS } from './steps.ts';
import type { Target } from './targets.ts';

/** Why a cell can't be: the request is never sent, or the fault makes no sense for it. Undefined: it can. */
export function inapplicable({ target, step, kind }: Cell): string | undefined {
  const isToken = step.step === 'token';
  const credentials = kind.needs === 'credentials' || isToken;
  if (credentials && !target.tokens) return 'it asks for no credentials here';
  if (kind.needs === 'credentials' && isToken) return 'a request for a token carries none';
  if ((kind.needs === 'body' || kind.needs === 'session') && step.has?.includes(kind.needs) !== true) {
    return `the request has no ${kind.needs}`;
  }
  const chunked = step.step === 'upload-patch' || step.step === 'upload-get' || step.name === 'PUT, closing';
  if (target.afterBreak === 'whole' && chunked) return 'blobs go in one PUT';
  if (target.name === 'ecr' && step.name === 'PATCH, last') return 'the last chunk goes in the closing PUT';
  if (kind.unused !== undefined && !EARLY.has(step.name)) return 'the connections opened early are used by then';
  return undefined;
}

/** Steps at which connections that were opened early have had no request yet. */
const EARLY: ReadonlySet<string> = new Set(['token', 'HEAD blob', 'HEAD after its POST', 'POST', 'PATCH, first']);

/** The cells of a target, those that can't be among them. */
export const cellsOf = (target: Target): Cell[] =>
  STEPS.flatMap((step) => KINDS.map((kind): Cell => ({ target, step, kind })));

/** Cells of all targets that are under way at once: those that send all the time, and those that mostly wait for no answer. */
const atOnce = { busy: pLimit(24), silent: pLimit(60) };

/** Runs cells of one target, several at once, and gives their results in the same order. */
export async function runCells(target: Target, cells: readonly Cell[]): Promise<Result[]> {
  const running = target.start();
  try {
    return await Promise.all(
      cells.map((cell) => atOnce[cell.kind.hangs ? 'silent' : 'busy'](() => runCell(cell, running))),
    );
  } finally {
    await running.close();
  }
}
