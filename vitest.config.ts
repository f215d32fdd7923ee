import { defineConfig } from 'vitest/config';
import { LongestFirst } from './__tests__/support/longest-first.ts';

export default defineConfig({
  test: {
    pool: 'forks',
    // Much of the time is waiting for engines and registries: three keep two cores busy.
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    testTimeout: 30_000,
    hookTimeout: 60_000,
    globalSetup: ['__tests__/support/real/broker.ts'],
    include: ['__tests__/**/*.test.ts'],
  },
});
