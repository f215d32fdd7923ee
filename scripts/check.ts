/** `npm run check`: types, formatting and lint, and whether the committed dist is what the sources build. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

const succeeds = (command: string, ...args: readonly string[]): boolean =>
  spawnSync(command, args, { cwd: root, stdio: 'inherit' }).status === 0;

/** Every file below a folder with the hash of its bytes. */
const hashes = (folder: string): ReadonlyMap<string, string> => {
  if (!existsSync(folder)) return new Map();
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map((entry) => join(entry.parentPath, entry.name)).sort();
  return new Map(
    paths.map((path) => [relative(folder, path), createHash('sha256').update(readFileSync(path)).digest('hex')]),
  );
};

/** Builds into a folder apart and tells which files of the committed dist differ. */
const distIsCurrent = (): boolean => {
  const folder = mkdtempSync(join(tmpdir(), 'chunked-push-dist-'));
  try {
    if (!succeeds(process.execPath, join(root, 'scripts/build.ts'), folder)) return false;
    const [committed, built] = [hashes(join(root, 'dist')), hashes(folder)];
    const differing = [...new Set([...committed.keys(), ...built.keys()])].filter(
      (path) => committed.get(path) !== built.get(path),
    );
    for (const path of differing)
      console.error(`dist/${path} is not what the sources build: run "npm run build" and commit dist`);
    return differing.length === 0;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};

const checks: readonly (readonly [string, () => boolean])[] = [
  ['types (tsc)', () => succeeds('tsc', '-p', '.')],
  ['formatting and lint (biome)', () => succeeds('biome', 'check', '--error-on-warnings', '.')],
  ['dist is what the sources build', distIsCurrent],
];

const results = checks.map(([name, check]) => {
  const passed = check();
  console.log(`${passed ? 'passed' : 'FAILED'}: ${name}`);
  return passed;
});
const failed = results.filter((passed) => !passed).length;
console.log(`${results.length - failed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
