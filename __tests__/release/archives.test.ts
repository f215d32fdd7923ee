import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runBare } from '../../scripts/release/run-bare.ts';
import { thisSystem } from '../../scripts/release/systems.ts';
import { writeDockerArchive } from '../support/images.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { expectPush, LIMIT, RECIPE } from './pushes.ts';

const checkout = fileURLToPath(new URL('../../', import.meta.url));

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'chunked-push-archives-'));
});

afterAll(() => rmSync(folder, { recursive: true }));

describe('the archive for this machine', () => {
  const system = thisSystem()!;
  const name = `chunked-push-${system.name}`;
  let unpacked: string;
  let image: string;
  let registry: Registry;

  beforeAll(async () => {
    const script = join(checkout, 'scripts/release-archives.ts');
    execFileSync(process.execPath, [script, '--only', system.name, '--out', folder], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    execFileSync('tar', ['--extract', '--gzip', '--file', join(folder, `${name}.tar.gz`), '--directory', folder]);
    unpacked = join(folder, name);
    image = join(folder, 'image.tar');
    await writeDockerArchive(image, 'app:1', RECIPE);
    registry = await startRegistry({ profile: 'limited', limit: LIMIT });
  });

  afterAll(() => registry?.close());

  it('has its checksum beside it', () => {
    const hash = createHash('sha256')
      .update(readFileSync(join(folder, `${name}.tar.gz`)))
      .digest('hex');
    expect(readFileSync(join(folder, 'SHA256SUMS'), 'utf8')).toBe(`${hash}  ${name}.tar.gz\n`);
  });

  it('holds dist, Node.js with its licence, a launcher, and what explains them', () => {
    expect(readdirSync(unpacked).sort()).toEqual([
      'LICENSE',
      'README.md',
      'chunked-push',
      'dist',
      'node',
      'package.json',
    ]);
    expect(readdirSync(join(unpacked, 'dist')).sort()).toEqual(readdirSync(join(checkout, 'dist')).sort());
    expect(readdirSync(join(unpacked, 'node')).sort()).toEqual(['LICENSE', 'node']);
    expect(readFileSync(join(unpacked, 'node/LICENSE'), 'utf8')).toContain('Node.js is licensed for use as follows');
  });

  it('is started through a link in the PATH, relative or not', async () => {
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    symlinkSync(`../${name}/chunked-push`, join(bin, 'relative'));
    symlinkSync(join(bin, 'relative'), join(bin, 'absolute'));
    const env = { PATH: `${bin}:/usr/bin:/bin`, HOME: folder };
    for (const command of ['relative', 'absolute']) {
      const { exitCode, stdout } = await runBare(['/bin/sh', '-c', `${command} --help`], env);
      expect(exitCode).toBe(0);
      expect(stdout).toContain('Usage: chunked-push');
    }
  });

  it('gives on its exit code', async () => {
    expect((await runBare([join(unpacked, 'chunked-push'), '--no-such-flag'], { HOME: folder })).exitCode).toBe(2);
  });

  it('pushes an image on a system without Node.js, whose only programs are a shell and the C library', async () => {
    const root = join(folder, 'root');
    for (const path of ['tmp', 'opt', 'bin']) mkdirSync(join(root, path), { recursive: true });
    cpSync(unpacked, join(root, 'opt/chunked-push'), { recursive: true });
    copyFileSync(image, join(root, 'image.tar'));
    copyFileSync('/bin/sh', join(root, 'bin/sh'));
    for (const library of librariesOf('/bin/sh', join(unpacked, 'node/node'))) {
      mkdirSync(join(root, dirname(library)), { recursive: true });
      copyFileSync(library, join(root, library));
    }
    // Only root may change the root.
    const changeRoot = [...(process.getuid?.() === 0 ? [] : ['sudo', '-n']), '/usr/sbin/chroot', root];
    const command = [...changeRoot, '/opt/chunked-push/chunked-push', 'docker-archive:/image.tar', '--no-cache'];
    await expectPush(command, { PATH: '/usr/bin:/bin', HOME: '/tmp' }, registry, 'archive/app');
  });
});

/** What the dynamic linker loads for programs: all of it is in Debian's smallest image. */
const librariesOf = (...programs: readonly string[]): ReadonlySet<string> => {
  const listed = programs.map((program) => execFileSync('ldd', [program], { encoding: 'utf8' })).join('');
  return new Set([...listed.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm)].map(([, path]) => path!));
};
