import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ImageRecipe, smallRecipe } from '../support/images.ts';
import { startNginx } from '../support/real/nginx.ts';
import { type Pulled, pullBack } from '../support/real/pull.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { type ActionRun, runAction } from '../support/runner.ts';
import { ENGINES, type EngineWithImage } from './engine-images.ts';
import { metadataOf } from './results.ts';

const MIB = 1024 * 1024;
const IMAGE = 'e2e.example/engines/app:1';

for (const kind of ENGINES) {
  describeWith([kind.part, 'docker-registry', 'nginx', 'skopeo'], `an image of ${kind.name}`, () => {
    let engine: EngineWithImage;
    let registry: DockerRegistry;

    beforeAll(async () => {
      registry = await startDockerRegistry();
      engine = await kind.start(IMAGE, smallRecipe('engines'));
    });

    afterAll(async () => {
      await registry?.stop();
      await engine?.stop();
    });

    const push = (reference: string, inputs: Readonly<Record<string, string>> = {}) =>
      runAction({ inputs: { image: IMAGE, tags: reference, ...inputs }, env: engine.env });

    /** What must hold wherever an image was pushed to; gives what was pulled back. */
    const verify = async (run: ActionRun, reference: string): Promise<Pulled> => {
      expect(run.errors).toEqual([]);
      expect(run.exitCode).toBe(0);
      const pulled = await pullBack(reference);
      const repository = reference.slice(0, reference.lastIndexOf(':'));
      expect(run.outputs).toMatchObject({
        digest: pulled.digest,
        imageid: engine.imageId,
        image: `${repository}@${pulled.digest}`,
      });
      expect(pulled.diffIds).toEqual(engine.diffIds);
      expect(kind.keepsManifests ? pulled.digest : pulled.configDigest).toBe(engine.imageId);
      expect(metadataOf(run).tags).toEqual([{ reference, digest: pulled.digest }]);
      expect(run.summary).toContain(`${repository}@${pulled.digest}`);
      expect(run.groups).toEqual(expect.arrayContaining(['Resolve', 'Export', 'Upload', 'Manifest']));
      return pulled;
    };

    describe.each(['save', 'auto'])('with export: %s', (way) => {
      it('goes into docker-registry and comes back the same', async () => {
        const reference = `${registry.host}/team/plain-${way}:v1`;
        const run = await push(reference, { export: way });
        await verify(run, reference);
        expect(registry.openUploads()).toEqual([]);
      });

      it('passes nginx with a limit of 4 MB, which is learnt on the way', async () => {
        const nginx = await startNginx({ upstream: registry.host, clientMaxBodySize: '4m' });
        const reference = `${nginx.host}/team/limited-${way}:v1`;
        const run = await push(reference, { export: way });
        await verify(run, reference);
        const refused = nginx.requests().filter(({ status }) => status === 413);
        expect(refused.length).toBeGreaterThan(0);
        const [limit] = Object.values(metadataOf(run).limits);
        expect(limit).toBeGreaterThan(2_000_000);
        expect(limit).toBeLessThanOrEqual(4 * MIB);
        expect(registry.openUploads()).toEqual([]);
        await nginx.stop();
      });
    });

    it('is pulled by a real docker with the same image ID', async () => {
      const reference = `${registry.host}/team/pulled:v1`;
      await verify(await push(reference), reference);
      if (kind.part === 'podman') {
        await engine.run('pull', '--quiet', '--tls-verify=false', reference);
        expect((await engine.run('image', 'inspect', '--format', '{{.Id}}', reference)).trim()).toBe(
          engine.imageId.slice(7),
        );
        return;
      }
      await engine.run('pull', '--quiet', reference);
      expect((await engine.run('image', 'inspect', '--format', '{{.Id}}', reference)).trim()).toBe(engine.imageId);
    });

    it('moves nothing the second time', async () => {
      const first = `${registry.host}/team/again:v1`;
      const second = `${registry.host}/team/again:v2`;
      await verify(await push(first), first);
      const run = await push(second);
      expect(run.exitCode).toBe(0);
      expect(metadataOf(run)).toMatchObject({ bytesSent: 0, tags: [{ reference: second }] });
      expect((await pullBack(second)).digest).toBe(run.outputs.digest);
    });

    describe('on the embedded registry', () => {
      let embedded: Registry;

      const on = async (options: Parameters<typeof startRegistry>[0], test: (reference: string) => Promise<void>) => {
        embedded = await startRegistry(options);
        try {
          await test(`${embedded.host}/team/app:v1`);
          expect(embedded.openSessions()).toBe(0);
        } finally {
          await embedded.close();
        }
      };

      it('goes into a serverless registry in equal chunks of at least 5 MiB', () =>
        on({ profile: 'serverless', maxChunk: 6 * MIB }, async (reference) => {
          await verify(await push(reference), reference);
          const chunks = embedded.requests.filter(({ step }) => step === 'upload-patch');
          expect(chunks.some(({ bytes }) => bytes >= 5 * MIB)).toBe(true);
          expect(Math.max(...chunks.map(({ bytes }) => bytes))).toBeLessThanOrEqual(6 * MIB);
        }));

      it('goes past a limit of 2 MiB', () =>
        on({ profile: 'limited', limit: 2 * MIB }, async (reference) => {
          await verify(await push(reference), reference);
        }));
    });
  });
}

describeWith(['docker-trixie', 'docker-registry', 'skopeo'], 'the containerd image store', () => {
  const kind = ENGINES.find(({ part }) => part === 'docker-trixie')!;
  let registry: DockerRegistry;

  beforeAll(async () => {
    registry = await startDockerRegistry();
  });

  afterAll(() => registry?.stop());

  /** Without the empty layer, which other images have: `docker load` uses their compressed one, if it is there. */
  const unsharedRecipe = (seed: string): ImageRecipe => {
    const { layers, ...rest } = smallRecipe(seed);
    return { ...rest, layers: layers.filter((layer) => layer !== 'empty') };
  };

  /** The same image by `docker push` and by us. */
  const pushBoth = async (how: 'build' | 'load'): Promise<{ ours: Pulled; theirs: Pulled }> => {
    const [byDocker, byUs] = [`${registry.host}/team/by-docker:${how}`, `${registry.host}/team/by-us:${how}`];
    const engine = await kind.start(byDocker, unsharedRecipe(`digests-${how}`), how);
    const run = await runAction({ inputs: { image: byDocker, tags: byUs }, env: engine.env });
    expect(run.errors).toEqual([]);
    await engine.run('push', '--quiet', byDocker);
    await engine.stop();
    const pulled = { ours: await pullBack(byUs), theirs: await pullBack(byDocker) };
    expect(run.outputs.digest).toBe(pulled.ours.digest);
    return pulled;
  };

  it('gives the digest that docker push gives', async () => {
    const { ours, theirs } = await pushBoth('build');
    expect(ours.root.toString()).toBe(theirs.root.toString());
  });

  it('has its layers compressed when they were loaded uncompressed, which docker push sends as they are', async () => {
    const { ours, theirs } = await pushBoth('load');
    expect(ours.config.toString()).toBe(theirs.config.toString());
    expect(ours.diffIds).toEqual(theirs.diffIds);
    const sizes = ({ manifest }: Pulled) => manifest.layers.reduce((sum, layer) => sum + layer.size, 0);
    expect(sizes(theirs)).toBe(theirs.size);
    expect(sizes(ours)).toBeLessThan(theirs.size * 0.8);
  });
});
