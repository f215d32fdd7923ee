/**
 * `npm run units`: the unit tests that need no engine, no registry and no other program. They run on macOS and Windows too; the
 * rest of the suite is Linux's.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { TEST_PARTS, WITHOUT_VARIABLE } from '../__tests__/support/real/parts.ts';

/** Folders and files below __tests__. */
const UNITS = [
  ...['blob', 'common', 'oci', 'push', 'registry', 'report', 'terminal'],
  ...['source/archive', 'source/find', 'support/registry', 'release/archive-files.test.ts', 'release/notes.test.ts'],
];

/** They make programs by `#!/bin/sh`, FIFOs or links, which Windows does not have or does not let everybody make. */
const POSIX_ONLY = [
  ...['blob/make', 'common/open-regular', 'registry/auth/credentials', 'registry/auth/helper'],
  ...['source/archive/hostile', 'source/find/find'],
];

const inTests = (path: string): string => `__tests__/${path}`;

const excluded = process.platform === 'win32' ? POSIX_ONLY : [];
const vitest = fileURLToPath(new URL('../node_modules/vitest/vitest.mjs', import.meta.url));
const args = [
  ...['run', ...UNITS.map(inTests), ...process.argv.slice(2)],
  ...excluded.flatMap((path) => ['--exclude', inTests(`${path}.test.ts`)]),
];
const { status } = spawnSync(process.execPath, [vitest, ...args], {
  cwd: fileURLToPath(new URL('..', import.meta.url)),
  stdio: 'inherit',
  env: { ...process.env, [WITHOUT_VARIABLE]: TEST_PARTS.join(',') },
});
process.exitCode = status ?? 1;
