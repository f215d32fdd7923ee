import { expect, it } from 'vitest';
import { bigPush } from '../support/big-push.ts';
import { describeWith, sharedDocker } from '../support/real/suite.ts';
import { metadataOf } from './results.ts';

/** Small enough for every run of the tests; `node scripts/run.mjs big-push` does the same with 1.55 GB. */
const BYTES = 100_000_000;
const MEMORY_LIMIT = 200_000_000;

describeWith(['docker', 'docker-trixie', 'docker-registry', 'nginx'], 'a big push through a limit of 10 MB', () => {
  it('arrives whole, from either store, in little memory', { timeout: 240_000 }, async () => {
    const classic = await sharedDocker({ version: 'debian', store: 'overlay2' });
    const containerd = await sharedDocker({ version: 'trixie', store: 'containerd' });
    const result = await bigPush({ bytes: BYTES, classic, containerd, log: () => {} });
    for (const { run, served } of [result.classic, result.containerd]) {
      expect(run.errors).toEqual([]);
      expect(run.outputs.digest).toBe(served);
      expect(run.peakMemory).toBeLessThan(MEMORY_LIMIT);
    }
    expect(result.pulledId).toBe(result.builtId);
    expect(result.classic.run.outputs.imageid).toBe(result.builtId);
    expect(result.containerd.run.outputs.digest).toBe(result.dockerDigest);
    expect(result.largestBody).toBeLessThanOrEqual(10 * 1024 * 1024 + 4096);
    expect(metadataOf(result.classic.run).bytesSent).toBeGreaterThan(BYTES * 0.3);
  });
});
