/**
 * `npm run units`: the unit tests that need no engine, no registry and no other program. They run on macOS and Windows too; the
 * rest of the suite is Linux's.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { TEST_PARTS, WITHOUT_VARIABLE } from '../__tests__/support/real/parts.ts';

/** Folders and files below __tests__. */
const UNITS = [
  ...['blob', 'common', 'oci', 'push', 'registry', 'report', 'terminal'],
  ...['source/archive', 'source/find', 'support/registry', 'release/archive-files.test.ts', 'release/notes.test.ts'],
];

/** What reads /proc: Linux's. */
const LINUX_ONLY = ['common/open-regular', 'registry/auth/credentials-helper'];

/** What makes programs by `#!/bin/sh`, FIFOs or links, which Windows does not have or does not let everybody make. */
const POSIX_ONLY = [
  'blob/streaming',
  'registry/auth/stored-credentials',
  'source/archive/hostile',
  'source/find/find',
  'source/find/find-engines',
  'source/find/find-layouts',
];

const EXCLUDED: Readonly<Partial<Record<NodeJS.Platform, readonly string[]>>> = {
  darwin: LINUX_ONLY,
  win32: [...LINUX_ONLY, ...POSIX_ONLY],
};

const inTests = (path: string): string => `__tests__/${path}`;
const root = fileURLToPath(new URL('..', import.meta.url));
for (const path of [...UNITS, ...[...LINUX_ONLY, ...POSIX_ONLY].map((it) => `${it}.test.ts`)])
  if (!existsSync(`${root}/${inTests(path)}`))
    throw new Error(`${inTests(path)} is not there: scripts/units.ts names it`);

const vitest = fileURLToPath(new URL('../node_modules/vitest/vitest.mjs', import.meta.url));
const args = [
  ...['run', ...UNITS.map(inTests), ...process.argv.slice(2)],
  ...(EXCLUDED[process.platform] ?? []).flatMap((path) => ['--exclude', inTests(`${path}.test.ts`)]),
];
const { status } = spawnSync(process.execPath, [vitest, ...args], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, [WITHOUT_VARIABLE]: TEST_PARTS.join(',') },
});
process.exitCode = status ?? 1;
