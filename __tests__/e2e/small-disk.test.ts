/** A layer that is many times as large as the disk of RUNNER_TEMP goes through it, with the cache on. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { writeDockerArchive } from '../support/images.ts';
import { startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { freshRunner, runAction } from '../support/runner.ts';

const LAYER_BYTES = 150_000_000;
const DISK_MEBIBYTES = 32;

/** A file system in memory of a size of its own: only root may mount one. */
function smallDisk(path: string): void {
  mkdirSync(path, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MEBIBYTES}m`, 'none', path]);
  onTestFinished(() => void execFileSync('umount', ['--lazy', path]));
}

const canMount = process.platform === 'linux' && process.getuid?.() === 0;

describeWith(['docker-registry'], 'a small disk', () => {
  it.runIf(canMount)(`takes a layer of ${LAYER_BYTES / 1e6} MB through ${DISK_MEBIBYTES} MiB`, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'chunked-push-small-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const image = join(folder, 'image.tar');
    const layers = [{ bytes: LAYER_BYTES, content: 'random' as const }];
    await writeDockerArchive(image, 'app:1', { seed: 'small disk', layers });
    const registry = await startDockerRegistry();
    const runner = freshRunner();
    onTestFinished(() => runner.remove());
    smallDisk(runner.temp);
    try {
      const inputs = { image: `docker-archive:${image}`, tags: `${registry.host}/team/app:1` };
      const run = await runAction({ inputs, runner });
      expect(run.errors).toEqual([]);
      expect(run.exitCode).toBe(0);
      expect(JSON.parse(run.outputs.metadata ?? '{}')).toMatchObject({ bytesResent: 0 });
      expect(registry.openUploads()).toEqual([]);
    } finally {
      await registry.stop();
    }
  });
});
