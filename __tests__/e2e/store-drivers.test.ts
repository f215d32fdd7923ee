/** Engines whose storage driver cannot be read: `save` does it, and `export: store` says so. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildImage } from '../support/images.ts';
import { docker, imageIdOf, startDocker } from '../support/real/docker.ts';
import { commandOf } from '../support/real/parts.ts';
import { startPodman } from '../support/real/podman.ts';
import { pullBack } from '../support/real/pull.ts';
import { describeWith } from '../support/real/suite.ts';
import { startRegistry } from '../support/registry/server.ts';
import { runAction } from '../support/runner.ts';

const IMAGE = 'e2e.example/drivers/app:1';
const RECIPE = { seed: 'drivers', layers: [{ bytes: 200_000, files: 2 }, { bytes: 300_000 }] };

/** An engine with the vfs driver that holds the image. */
const ENGINES = {
  docker: async () => {
    const engine = await startDocker({ version: 'debian', store: 'vfs' });
    await buildImage({ command: commandOf('docker', 'docker'), env: engine.env }, IMAGE, RECIPE);
    const imageId = await imageIdOf(engine, IMAGE);
    expect(await docker(engine, 'info', '--format', '{{.Driver}}')).toContain('vfs');
    return { env: engine.env, imageId, stop: engine.stop };
  },
  podman: async () => {
    const podman = await startPodman({ driver: 'vfs' });
    await buildImage({ command: commandOf('podman', 'podman'), env: podman.env }, IMAGE, RECIPE);
    const id = (await podman.run('image', 'inspect', '--format', '{{.Id}}', IMAGE)).trim();
    return { env: podman.env, imageId: `sha256:${id}`, stop: podman.stop };
  },
} as const;

for (const tool of ['docker', 'podman'] as const) {
  describeWith([tool, 'skopeo'], `${tool} with the vfs driver`, () => {
    let engine: Awaited<ReturnType<(typeof ENGINES)[typeof tool]>>;
    beforeAll(async () => {
      engine = await ENGINES[tool]();
    });
    afterAll(() => engine?.stop());

    it('is left to save with export: auto, and is an error with export: store', async () => {
      const registry = await startRegistry();
      const tags = `${registry.host}/drivers/app:1`;
      const push = (way: string) =>
        runAction({ inputs: { image: IMAGE, tags, cache: 'false', engine: tool, export: way }, env: engine.env });
      const refused = await push('store');
      expect(refused.exitCode).toBe(1);
      expect(refused.errors).toEqual([expect.stringMatching(/storage driver is vfs.*set export: auto or save/s)]);
      expect(registry.tags('drivers/app')).toEqual([]);
      const run = await push('auto');
      expect(run.errors).toEqual([]);
      expect(run.debugs.join('\n')).toContain('storage driver is vfs');
      expect((await pullBack(tags)).configDigest).toBe(engine.imageId);
      expect(registry.openSessions()).toBe(0);
      await registry.close();
    });
  });
}
