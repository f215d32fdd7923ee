/** What the registry already has never moves: real engines on fresh runners, with and without a cache service. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type CacheServer, startCacheServer } from '../support/cache-server.ts';
import type { ImageRecipe } from '../support/images.ts';
import { pullBack } from '../support/real/pull.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { refusal } from '../support/registry/answer.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import { startRegistry } from '../support/registry/server.ts';
import { type ActionRun, freshRunner, type RunActionOptions, runAction } from '../support/runner.ts';
import { type CountedDocker, countDocker } from './counted-docker.ts';
import { ENGINES, type EngineWithImage } from './engine-images.ts';
import { metadataOf } from './results.ts';

const MB = 1_000_000;

const recipe = (seed: string): ImageRecipe => ({
  seed,
  layers: [
    { bytes: 2 * MB, files: 5 },
    { bytes: MB, content: 'random' },
    { bytes: MB, content: 'text' },
  ],
});

/** Puts one layer of `bytes` on top of an image that the engine has. */
const addLayer = async (engine: EngineWithImage, from: string, to: string, bytes: number): Promise<void> => {
  const folder = mkdtempSync(join(tmpdir(), 'layer-'));
  writeFileSync(join(folder, 'added'), randomBytes(bytes));
  const container = (await engine.run('create', from)).trim();
  await engine.run('cp', join(folder, 'added'), `${container}:/added`);
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
        kind.start(image, recipe(`warm-${kind.part}`)),
      ]);
      docker = countDocker(folder, kind.part, engine.env.PATH ?? '');
    });

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

    it('neither exports nor sends an unchanged image that only the cache explains', async () => {
      const tags = `${registry.host}/team/cached:v1`;
      // Nothing can be learnt from an image that is not there.
      const inputs = { tags, export: 'save', 'cache-from': `${registry.host}/team/nothing:here` };
      const runner = freshRunner();
      const first = await push(inputs, { env: cache.env, runner });
      const saves = docker.saves();
      const post = await runAction({ entry: 'post', state: first.state, env: { ...env(), ...cache.env }, runner });
      expect(post.exitCode).toBe(0);
      runner.remove();
      const again = await push(inputs, { env: cache.env });
      expectNothingMoved(again, first, saves);
    });

    it('sends only the new layer and the config of a changed image', async () => {
      const repository = `${registry.host}/team/changed`;
      const changed = `e2e.example/warm/changed-${kind.part}:1`;
      await push({ tags: `${repository}:latest`, cache: 'false' });
      await addLayer(engine, image, changed, 2 * MB);
      const tags = `${repository}:v2`;
      const run = await push({ image: changed, tags, cache: 'false', export: 'save' });
      const { blobs, bytesSent } = metadataOf(run);
      expect(blobs.filter(({ what }) => what === 'uploaded')).toHaveLength(2);
      expect(blobs.filter(({ what }) => what === 'exists')).toHaveLength(3);
      expect(bytesSent).toBeLessThan(2.1 * MB);
      expect((await pullBack(tags)).diffIds).toHaveLength(4);
      await engine.run('image', 'rm', '--force', changed);
    });

    it('only tags an image under a second name', async () => {
      const embedded = await startRegistry();
      const repository = `${embedded.host}/team/tagged`;
      const first = await push({ tags: `${repository}:v1`, cache: 'false' });
      const saves = docker.saves();
      embedded.requests.length = 0;
      const again = await push({ tags: `${repository}:v2`, cache: 'false', 'cache-from': `${repository}:v1` });
      expectNothingMoved(again, first, saves);
      const writes = embedded.requests.filter(({ method }) => !['GET', 'HEAD'].includes(method));
      expect(writes.map(({ step }) => step)).toEqual(['manifest-put']);
      await embedded.close();
    });

    it('sends a layer again that the registry has lost, and no other', async () => {
      const tags = `${registry.host}/team/lost-${kind.part}:v1`;
      const first = await push({ tags, cache: 'false' });
      const lost = metadataOf(first).blobs.find(({ size }) => size > 900_000);
      const hex = lost?.digest.slice('sha256:'.length) ?? '';
      const blob = join(registry.storage, 'docker/registry/v2/blobs/sha256', hex.slice(0, 2), hex);
      rmSync(blob, { recursive: true });
      const again = await push({ tags, cache: 'false', export: 'save' });
      expect(again.outputs.digest).toBe(first.outputs.digest);
      expect(metadataOf(again).bytesSent).toBe(lost?.size);
      const uploaded = metadataOf(again).blobs.filter(({ what }) => what === 'uploaded');
      expect(uploaded).toMatchObject([{ digest: lost?.digest }]);
      expect((await pullBack(tags)).digest).toBe(first.outputs.digest);
      expect(registry.openUploads()).toEqual([]);
    });

    it('has the engine push what the registry does not take from us, where fallback says so', async () => {
      const picky: Quirk = {
        name: 'takes uploads from docker alone',
        before: ({ method, headers }) =>
          method === 'POST' && !headers['user-agent']?.includes('docker')
            ? refusal(400, 'UNSUPPORTED', 'not in this way')
            : undefined,
      };
      const embedded = await startRegistry({ quirks: [picky] });
      const tags = `${embedded.host}/team/fallback:v1`;
      const run = await push({ tags, cache: 'false', fallback: 'engine' });
      expect(run.warnings.join()).toContain('not in this way');
      expect(run.outputs.digest).toBe(embedded.manifest('team/fallback', 'v1')?.digest);
      expect(metadataOf(run).tags).toEqual([{ reference: tags, digest: run.outputs.digest }]);
      await embedded.close();
    });
  });
}

const containerd = ENGINES.find(({ keepsManifests }) => keepsManifests);

describeWith(['docker-trixie'], 'an image that the containerd image store keeps uncompressed', () => {
  it('is compressed once: its second push from a fresh runner sends nothing', async () => {
    const registry = await startRegistry();
    const image = 'e2e.example/warm/loaded:1';
    const engine = await containerd?.start(image, recipe('loaded'), 'load');
    const inputs = { image, tags: `${registry.host}/team/loaded:v1`, cache: 'false' };
    const [first, again] = [
      await runAction({ inputs, env: engine?.env ?? {} }),
      await runAction({ inputs, env: engine?.env ?? {} }),
    ];
    expect(first.errors).toEqual([]);
    expect(metadataOf(again).bytesSent).toBe(0);
    expect(again.outputs.digest).toBe(first.outputs.digest);
    await Promise.all([registry.close(), engine?.stop()]);
  });
});
