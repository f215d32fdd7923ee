#!/usr/bin/env node
// The door to every task of the project: `node scripts/run.mjs test|demo|check|build|bench|… [arguments]`.
// Plain JavaScript without packages: it must start on Node 20 in a clone that has no node_modules yet.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const tasks = [
  'test',
  'demo',
  'check',
  'build',
  'bench',
  'setup',
  'big-push',
  'faults',
  'release-archives',
  'release-notes',
  'try-archive',
  'units',
  'pictures',
];

const readJson = (path) => JSON.parse(readFileSync(join(root, path), 'utf8'));

/** Whether node_modules holds what package-lock.json asks for. Contents are compared: a fresh clone has new times on every file. */
function packagesAreCurrent() {
  if (!existsSync(join(root, 'node_modules/.package-lock.json'))) return false;
  const installed = readJson('node_modules/.package-lock.json').packages;
  const wanted = Object.entries(readJson('package-lock.json').packages).filter(([path]) => path !== '');
  // A package for another system is optional in the lock and missing here: right, as long as what is here has the right version.
  return wanted.every(([path, { version, optional }]) =>
    installed[path] ? installed[path].version === version : Boolean(optional),
  );
}

function installPackages() {
  console.log('Installing the packages of package-lock.json (npm ci) ...');
  const npm = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    shell: process.platform === 'win32',
  });
  if (npm.status === 0) return;
  console.error(`${npm.stdout ?? ''}${npm.stderr ?? ''}${npm.error ? npm.error.message : ''}`);
  console.error('npm ci failed: see above. It needs npm and a way to the npm registry.');
  process.exit(1);
}

/** The runtime of the action (action.yml says node24) comes as an npm package, so any Node from 20 on is enough to begin. */
function actionRuntime() {
  const packaged = join(root, 'node_modules/node/bin', process.platform === 'win32' ? 'node.exe' : 'node');
  if (existsSync(packaged)) return packaged;
  if (process.versions.node.startsWith('24.')) return process.execPath;
  console.error(`${packaged} is missing: the npm package "node" brings Node 24. Remove node_modules and try again.`);
  process.exit(1);
}

const [task, ...rest] = process.argv.slice(2);
if (!tasks.includes(task)) {
  console.error(`usage: node scripts/run.mjs ${tasks.join('|')} [arguments]`);
  process.exit(2);
}
if (!packagesAreCurrent()) installPackages();

const runtime = actionRuntime();
const child = spawn(runtime, [join(root, 'scripts', `${task}.ts`), ...rest], {
  cwd: root,
  stdio: 'inherit',
  env: {
    ...process.env,
    PATH: [dirname(runtime), join(root, 'node_modules/.bin'), process.env.PATH ?? ''].join(delimiter),
  },
});
// A terminal sends Ctrl-C to the task as well; this process only waits for it to clean up. A signal sent to this process alone is passed on.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => child.kill('SIGTERM'));
child.on('error', (error) => {
  console.error(`${runtime} does not start: ${error.message}`);
  process.exit(1);
});
child.on('exit', (code, signal) => process.exit(code ?? 128 + (constants.signals[signal ?? 'SIGTERM'] ?? 15)));
