/** The fault matrix on embedded profiles: registries that people run themselves. */
import { describe, expect, it } from 'vitest';
import { cellsOf, inapplicable, runCells } from './matrix.ts';
import { EMBEDDED, HOSTED } from './targets.ts';
import { complaints } from './verdict.ts';

const targets = EMBEDDED.filter(({ name }) => !HOSTED.has(name));

describe.concurrent.each(targets)('$name', (target) => {
  it('every step under every fault ends in one of two ways', { timeout: 300_000 }, async () => {
    const cells = cellsOf(target).filter((cell) => inapplicable(cell) === undefined);
    const results = await runCells(target, cells);
    expect(results).toHaveLength(cells.length);
    expect(complaints(results)).toEqual([]);
  });
});
