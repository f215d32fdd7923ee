/**
 * `npm run try-archive -- ARCHIVE`: unpacks a release archive, pushes an image by its launcher to an embedded registry that takes
 * small requests only, with a PATH that has no Node.js, and pulls the image back. For the system that the archive is for.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { writeDockerArchive } from '../__tests__/support/images.ts';
import { startRegistry } from '../__tests__/support/registry/server.ts';
import type { Digest } from '../src/oci/types.ts';
import { pullBack } from './demo/pull-back.ts';
import { runBare } from './release/run-bare.ts';

const [archive = ''] = process.argv.slice(2);
const isWindows = process.platform === 'win32';
const folder = mkdtempSync(join(tmpdir(), 'chunked-push-try-'));
const registry = await startRegistry({ profile: 'limited', limit: 1024 * 1024 });
try {
  const unpacked = unpack();
  const image = join(folder, 'image.tar');
  const layers = [{ bytes: 6_000_000 }, { bytes: 3_000_000, content: 'random' as const }];
  await writeDockerArchive(image, 'app:1', { seed: 'try', layers });
  // Only what a system has before anybody installs something.
  const path = isWindows ? join(process.env.SystemRoot ?? 'C:\\Windows', 'System32') : '/usr/bin:/bin';
  const launcher = join(unpacked, isWindows ? 'chunked-push.cmd' : 'chunked-push');
  // With its reference, so that the path's own colon on Windows is seen to be part of the path.
  const command = [launcher, `docker-archive:${image}:app:1`, '--to', `${registry.host}/try/app:1`];
  const { exitCode, stdout, stderr } = await runBare(command, { PATH: path, HOME: folder, USERPROFILE: folder });
  process.stdout.write(stderr + stdout);
  const [, digest] = /@(sha256:[0-9a-f]{64})\s*$/.exec(stdout) ?? [];
  if (exitCode !== 0 || digest === undefined) throw new Error(`the launcher ended with ${exitCode}`);
  const pulled = await pullBack(registry.url, 'try/app', digest as Digest);
  console.log(`${archive} works here: ${pulled.length} layers were pushed and pulled back, ${digest}`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  await registry.close();
  rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
}

/** Returns the one folder in the archive. The system's own tar unpacks: Windows has one that knows zip. */
function unpack(): string {
  const into = join(folder, 'unpacked');
  mkdirSync(into);
  const tar = isWindows ? join(process.env.SystemRoot ?? 'C:\\Windows', 'System32', 'tar.exe') : 'tar';
  const { status, stderr } = spawnSync(tar, ['-xf', resolve(archive), '-C', into], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${archive} can't be unpacked: ${stderr}`);
  return join(into, readdirSync(into)[0] ?? '');
}
