/** The fault matrix on Debian's docker-registry. */
import { it } from 'vitest';
import { startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { realTarget } from './targets.ts';
import { expectTwoEnds } from './two-ends.ts';

describeWith(['docker-registry'], 'docker-registry', () => {
  it('ends every step under every fault in one of two ways', { timeout: 300_000 }, async () => {
    const registry = await startDockerRegistry();
    try {
      const target = realTarget(registry);
      await expectTwoEnds(target);
    } finally {
      await registry.stop();
    }
  });
});
