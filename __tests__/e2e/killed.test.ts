/** The terminal command is killed in the middle of a layer; the next push goes on there, and sweeps away what the first one left. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startFaultProxy } from '../support/fault-proxy/proxy.ts';
import { writeDockerArchive } from '../support/images.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { runCommand } from '../support/terminal.ts';

const LAYER_BYTES = 30_000_000;
const CHUNK_BYTES = 1_000_000;
const KILL_AT = 12_000_000;

describe('a push that was killed', () => {
  let folder: string;
  let registry: Registry;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-killed-'));
    // By the specification a session outlives a broken PATCH; distribution 2.8 and zot delete it.
    registry = await startRegistry();
  });
  afterAll(async () => {
    await registry.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it('goes on at the chunk where it was, and leaves nothing behind', async () => {
    const image = join(folder, 'image.tar');
    await writeDockerArchive(image, 'app:1', { seed: 'killed', layers: [{ bytes: LAYER_BYTES, content: 'random' }] });
    const proxy = await startFaultProxy({ target: registry.url, bandwidth: 6_000_000 });
    const cache = join(folder, '.cache/chunked-push');
    const args = [`docker-archive:${image}`, '--to', `${proxy.host}/team/app:1`, '--chunk-size', String(CHUNK_BYTES)];
    const options = { env: { HOME: folder } };
    try {
      const watch = { timer: undefined as NodeJS.Timeout | undefined };
      const killed = await runCommand(args, {
        ...options,
        onOutput: (_, { signal }) => {
          watch.timer ??= setInterval(() => proxy.stats.bodyBytes > KILL_AT && signal('SIGKILL'), 5);
        },
      });
      clearInterval(watch.timer);
      expect(killed.exitCode).toBeUndefined();
      const sent = proxy.stats.bodyBytes;
      expect(sent).toBeLessThan(LAYER_BYTES);
      expect(readdirSync(join(cache, 'uploads'))).not.toEqual([]);

      const next = await runCommand(args, options);
      expect(next).toMatchObject({ exitCode: 0 });
      expect(proxy.stats.bodyBytes).toBeLessThan(LAYER_BYTES + 3 * CHUNK_BYTES);
      expect(readdirSync(join(cache, 'uploads'))).toEqual([]);
      expect(readdirSync(join(cache, 'tmp'))).toEqual([]);
      expect(readdirSync(cache).filter((name) => name.startsWith('spool-'))).toEqual([]);
    } finally {
      await proxy.close();
    }
  });
});
