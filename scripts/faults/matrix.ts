/** The fault matrix, run for the document. */
import { nameOf } from '../../__tests__/faults/cell.ts';
import { KINDS } from '../../__tests__/faults/kinds.ts';
import { cellsOf, inapplicable, runCells } from '../../__tests__/faults/matrix.ts';
import { STEPS } from '../../__tests__/faults/steps.ts';
import { EMBEDDED, realTarget, type Target } from '../../__tests__/faults/targets.ts';
import { complaints } from '../../__tests__/faults/verdict.ts';
import { startDockerRegistry } from '../../__tests__/support/real/registry.ts';

/** What a registry made of one step under one fault. */
export interface Ended {
  readonly step: string;
  readonly fault: string;
  readonly registry: string;
  readonly group: Target['afterBreak'];
  /** Bytes that were sent again; `error` for an error that names the cause; else why the cell can't be. */
  readonly end: number | 'error' | { readonly why: string };
}

export interface MatrixRun {
  readonly cells: Ended[];
  readonly complaints: string[];
  readonly seconds: number;
}

async function runTarget(target: Target, found: MatrixRun): Promise<void> {
  const all = cellsOf(target);
  const results = await runCells(
    target,
    all.filter((cell) => inapplicable(cell) === undefined),
  );
  found.complaints.push(...complaints(results));
  const ends = new Map(results.map(({ cell, end }) => [nameOf(cell), end]));
  for (const cell of all) {
    const end = ends.get(nameOf(cell));
    const { step, kind } = cell;
    found.cells.push({
      step: step.name,
      fault: kind.name,
      registry: target.name,
      group: target.afterBreak,
      end: end === undefined ? { why: inapplicable(cell) ?? '' } : end.is === 'pushed' ? end.resent : 'error',
    });
  }
}

/** Runs every cell on every registry, one registry after the other. */
export async function measureMatrix(onTarget: (name: string) => void): Promise<MatrixRun> {
  const started = performance.now();
  const found: MatrixRun = { cells: [], complaints: [], seconds: 0 };
  const registry = await startDockerRegistry();
  try {
    for (const target of [...EMBEDDED, realTarget(registry)]) {
      onTarget(target.name);
      await runTarget(target, found);
    }
  } finally {
    await registry.stop();
  }
  return { ...found, seconds: (performance.now() - started) / 1000 };
}

/** Names in the order of the matrix. */
export const ROWS = STEPS.flatMap((step) => KINDS.map((kind) => ({ step: step.name, fault: kind.name })));
