import { defineConfig } from 'vitest/config';
import { LongestFirst } from './__tests__/support/longest-first.ts';

export default defineConfig({
  test: {
    pool: 'forks',
    // Much of the time is waiting for engines and registries: four keep two cores busy.
    maxWorkers: 4,
    sequence: { sequencer: LongestFirst },
    // Time-outs end what hangs; no test may fail because the machine is slow.
    testTimeout: 120_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 60_000 } },
    globalSetup: ['__tests__/support/real/broker.ts'],
    include: ['__tests__/**/*.test.ts', 'packages/*/__tests__/**/*.test.ts'],
  },
});
