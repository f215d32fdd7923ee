/** What the registry already has never moves: real engines on fresh runners, with and without a cache service. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type CacheServer, startCacheServer } from '../support/cache-server.ts';
import type { ImageRecipe } from '../support/images.ts';
import { pullBack } from '../support/real/pull.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { type ActionRun, type RunActionOptions, runAction } from '../support/runner.ts';
import { type CountedDocker, countDocker } from './counted-docker.ts';
import { ENGINES, type EngineWithImage } from './engine-images.ts';
import { metadataOf } from './results.ts';

const MB = 1_000_000;

/** `last` makes the seed of the last layer only: two images share all layers but that one. */
const recipe = (name: string): ImageRecipe => ({
  seed: name,
  layers: [
    { bytes: 2 * MB, files: 5 },
    { bytes: MB, content: 'random' },
    { bytes: MB, content: 'text' },
  ],
});

/** A Dockerfile's next layer on top of an image that the engine has. */
const oneMoreLayer = async (engine: EngineWithImage, from: string, to: string): Promise<void> => {
  const container = (await engine.run('create', from)).trim();
  const folder = mkdtempSync(join(tmpdir(), 'layer-'));
  await engine.run(
    'cp',
    process.execPath.endsWith('node') ? '/etc/services' : '/etc/services',
    `${container}:/changed`,
  );
  await engine.run('commit', container, to);
  await engine.run('rm', container);
  rmSync(folder, { recursive: true });
};

for (const kind of ENGINES.filter(({ part }) => part !== 'podman')) {
  describeWith([kind.part, 'docker-registry', 'skopeo'], `a fresh runner with ${kind.name}`, () => {
    const image = `e2e.example/warm/app:${kind.part}`;
    let engine: EngineWithImage;
    let docker: CountedDocker;
    let registry: DockerRegistry;
    let cache: CacheServer;
    let folder: string;

    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), 'warm-'));
      [registry, cache, engine] = await Promise.all([
        startDockerRegistry(),
        startCacheServer(),
        kind.start(image, recipe(`warm ${kind.part}`)),
      ]);
      docker = countDocker(folder, kind.part, engine.env.PATH ?? '');
    }, 120_000);

    afterAll(async () => {
      await Promise.all([registry?.stop(), cache?.close(), engine?.stop()]);
      rmSync(folder, { recursive: true, force: true });
    });

    const env = () => ({ ...engine.env, PATH: docker.path });
    const push = async (inputs: Readonly<Record<string, string>>, options: Partial<RunActionOptions> = {}) => {
      const run = await runAction({ inputs: { image, ...inputs }, ...options, env: { ...env(), ...options.env } });
      expect(run.errors).toEqual([]);
      expect(run.exitCode).toBe(0);
      return run;
    };
    const expectNothingMoved = (run: ActionRun, first: ActionRun, saves: number) => {
      expect(metadataOf(run).bytesSent).toBe(0);
      expect(run.outputs.digest).toBe(first.outputs.digest);
      expect(docker.saves()).toBe(saves);
    };

    it.each(['save', 'auto'])(
      'neither exports nor sends an unchanged image by cache-from alone (export: %s)',
      async (way) => {
        const tags = `${registry.host}/team/unchanged-${way}:v1`;
        const first = await push({ tags, export: way, cache: 'false' });
        const saves = docker.saves();
        const again = await push({ tags, export: way, cache: 'false' });
        expectNothingMoved(again, first, saves);
        expect((await pullBack(tags)).digest).toBe(first.outputs.digest);
      },
    );

    it('sends only the new layer and the config of a changed image', async () => {
      const repository = `${registry.host}/team/changed`;
      await push({ tags: `${repository}:latest`, cache: 'false' });
      const changed = `e2e.example/warm/changed:${kind.part}`;
      await oneMoreLayer(engine, image, changed);
      const run = await push({ image: changed, tags: `${repository}:v2`, cache: 'false', export: 'save' });
      const uploaded = metadataOf(run).blobs.filter(({ what }) => what === 'uploaded');
      expect(uploaded).toHaveLength(2);
      expect(metadataOf(run).bytesSent).toBeLessThan(100_000);
      expect((await pullBack(`${repository}:v2`)).diffIds).toHaveLength(4);
      await engine.run('image', 'rm', '--force', changed);
    });
  });
}
