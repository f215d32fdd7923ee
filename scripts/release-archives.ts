/**
 * `npm run release-archives [-- --only NAME,NAME --out FOLDER]`: an archive for each system, with dist, the Node.js that npm has for it
 * and a launcher, so that a machine needs neither Node.js nor npm; SHA256SUMS beside them. Runs on Linux and macOS, for all systems.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type ArchivedFile, writeTarball, writeZip } from './release/archive.ts';
import { SHELL_LAUNCHER, WINDOWS_LAUNCHER } from './release/launchers.ts';
import { packageFiles } from './release/npm-package.ts';
import { SYSTEMS, type System } from './release/systems.ts';

process.env.TZ = 'UTC';

const root = fileURLToPath(new URL('..', import.meta.url));

const { values } = parseArgs({ options: { only: { type: 'string' }, out: { type: 'string', default: 'release' } } });
const out = resolve(root, values.out);

const chosen = (): readonly System[] => {
  if (values.only === undefined) return SYSTEMS;
  return values.only.split(',').map((wanted) => {
    const system = SYSTEMS.find(({ name }) => name === wanted);
    if (!system) throw new Error(`there is no archive for ${wanted}: ${SYSTEMS.map(({ name }) => name).join(', ')}`);
    return system;
  });
};

/** The time of all files: that of the commit, so that each build of it gives the same archive. */
const commitTime = (): Date => {
  const seconds = process.env.SOURCE_DATE_EPOCH ?? execFileSync('git', ['log', '-1', '--format=%ct'], { cwd: root });
  return new Date(Number(String(seconds)) * 1000);
};

const file = (path: string, from = path): ArchivedFile => ({ path, content: readFileSync(join(root, from)) });

/** What every archive has. Without package.json Node.js would not take dist for ES modules. */
const common = (): readonly ArchivedFile[] => {
  const { name, version, license, homepage, type } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const manifest = JSON.stringify({ name, version, license, homepage, type, private: true }, null, 2);
  return [
    ...readdirSync(join(root, 'dist')).map((name) => file(`dist/${name}`)),
    file('LICENSE'),
    file('README.md'),
    { path: 'package.json', content: Buffer.from(`${manifest}\n`) },
  ];
};

/** Node.js itself, with its licence: nothing else of the package. */
const runtime = async ({ node, license = node }: System): Promise<readonly ArchivedFile[]> => {
  const files = new Map([
    ...(await packageFiles(node, (path) => /^bin\/node(\.exe)?$/.test(path))),
    ...(await packageFiles(license, (path) => path === 'LICENSE')),
  ]);
  if (files.size !== 2) throw new Error(`${node.name}@${node.version} has only ${[...files.keys()].join(', ')}`);
  return [...files].map(([path, content]) => ({
    path: path.replace(/^(bin\/)?/, 'node/'),
    content,
    isProgram: path !== 'LICENSE',
  }));
};

/** Returns the archive's file name. */
const writeArchive = async (system: System, mtime: Date): Promise<string> => {
  const isWindows = system.name.startsWith('windows-');
  const launcher = isWindows
    ? { path: 'chunked-push.cmd', content: Buffer.from(WINDOWS_LAUNCHER) }
    : { path: 'chunked-push', content: Buffer.from(SHELL_LAUNCHER), isProgram: true };
  const folder = `chunked-push-${system.name}`;
  const files = [launcher, ...common(), ...(await runtime(system))].map((it) => ({
    ...it,
    path: `${folder}/${it.path}`,
  }));
  const name = `${folder}.${isWindows ? 'zip' : 'tar.gz'}`;
  await (isWindows ? writeZip : writeTarball)(join(out, name), files, mtime);
  return name;
};

mkdirSync(out, { recursive: true });
const mtime = commitTime();
const sums: string[] = [];
for (const system of chosen()) {
  const name = await writeArchive(system, mtime);
  const bytes = readFileSync(join(out, name));
  sums.push(`${createHash('sha256').update(bytes).digest('hex')}  ${name}\n`);
  console.log(`${join(out, name)}  ${(bytes.length / 1e6).toFixed(1)} MB, Node.js ${system.node.version}`);
}
writeFileSync(join(out, 'SHA256SUMS'), sums.join(''));
