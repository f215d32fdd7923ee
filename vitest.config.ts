import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    globalSetup: ['__tests__/support/real/broker.ts'],
    include: ['__tests__/**/*.test.ts'],
  },
});
