/** The fault matrix on Debian's docker-registry. */
import { expect, it } from 'vitest';
import { startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { cellsOf, inapplicable, runCells } from './matrix.ts';
import { realTarget } from './targets.ts';
import { complaints } from './verdict.ts';

describeWith(['docker-registry'], 'docker-registry', () => {
  it('ends every step under every fault in one of two ways', { timeout: 300_000 }, async () => {
    const registry = await startDockerRegistry();
    try {
      const target = realTarget(registry);
      const cells = cellsOf(target).filter((cell) => inapplicable(cell) === undefined);
      const results = await runCells(target, cells);
      expect(results).toHaveLength(cells.length);
      expect(complaints(results)).toEqual([]);
    } finally {
      await registry.stop();
    }
  });
});
