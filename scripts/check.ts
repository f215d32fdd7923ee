/** `npm run check`: types, formatting and lint, and whether the committed dist is what the sources build. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

const succeeds = (command: string, ...args: readonly string[]): boolean =>
  spawnSync(command, args, { cwd: root, stdio: 'inherit' }).status === 0;

/** Every file below dist with the hash of its bytes. */
const hashes = (): ReadonlyMap<string, string> => {
  const dist = join(root, 'dist');
  if (!existsSync(dist)) return new Map();
  const files = readdirSync(dist, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map((entry) => join(entry.parentPath, entry.name)).sort();
  return new Map(
    paths.map((path) => [path.slice(root.length), createHash('sha256').update(readFileSync(path)).digest('hex')]),
  );
};

/** Builds dist anew and tells which files are not what they were; the new ones stay, ready to be committed. */
const distIsCurrent = (): boolean => {
  const before = hashes();
  if (!succeeds(process.execPath, join(root, 'scripts/build.ts'))) return false;
  const after = hashes();
  const changed = [...new Set([...before.keys(), ...after.keys()])].filter(
    (path) => before.get(path) !== after.get(path),
  );
  for (const path of changed) console.error(`${path} was not what the sources build: commit the new one`);
  return changed.length === 0 && after.size > 0;
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
