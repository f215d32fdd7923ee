/** What each test of the matrix expects. */
import { expect } from 'vitest';
import { cellsOf, inapplicable, runCells } from './matrix.ts';
import type { Target } from './targets.ts';
import { complaints } from './verdict.ts';

/** Every cell of a target that can be ends in one of two ways: pushed, or with an error that names the cause. */
export async function expectTwoEnds(target: Target): Promise<void> {
  const cells = cellsOf(target).filter((cell) => inapplicable(cell) === undefined);
  const results = await runCells(target, cells);
  expect(results).toHaveLength(cells.length);
  expect(complaints(results)).toEqual([]);
}
