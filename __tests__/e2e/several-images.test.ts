/** Several images in one step, out of real engines: all tags move or none, also when the step is killed between two of them. */
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { MediaType } from '../../src/oci/types.ts';
import { describeWith } from '../support/real/suite.ts';
import { refusal } from '../support/registry/answer.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { runAction } from '../support/runner.ts';
import { ENGINES, type EngineWithImage } from './engine-images.ts';
import { metadataOf } from './results.ts';

const KB = 1000;

/** Puts another image under the tag that a test pushes to. */
async function moveElsewhere(registry: Registry, repository: string): Promise<string> {
  const config = Buffer.from('{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}');
  const descriptor = {
    mediaType: MediaType.ociConfig,
    digest: await registry.addBlob(repository, config),
    size: config.length,
  };
  const manifest = { schemaVersion: 2, mediaType: MediaType.ociManifest, config: descriptor, layers: [] };
  const headers = { 'content-type': MediaType.ociManifest };
  const url = `${registry.url}/v2/${repository}/manifests/1`;
  const { status } = await fetch(url, { method: 'PUT', headers, body: JSON.stringify(manifest) });
  expect(status).toBe(201);
  return registry.manifest(repository, '1')!.digest;
}

/** What a test does at a manifest's PUT. */
let atManifest: (path: string) => 'refuse' | 'kill' | undefined = () => undefined;
let kill: () => void = () => {};
const watching: Quirk = {
  name: 'refuses a manifest, or kills its sender',
  before: ({ method, path, route: { step } }) => {
    const what = method === 'PUT' && step === 'manifest-put' ? atManifest(path) : undefined;
    if (what === 'kill') kill();
    return what && refusal(403, 'DENIED', 'not for you');
  },
};

// Every podman of these tests has a storage of its own.
for (const kind of ENGINES.filter(({ part }) => part !== 'podman')) {
  describeWith([kind.part], `several images of ${kind.name}`, () => {
    let one: Registry;
    let two: Registry;
    let engines: EngineWithImage[];
    let names: string[];

    beforeAll(async () => {
      [one, two] = await Promise.all([startRegistry({ quirks: [watching] }), startRegistry({ quirks: [watching] })]);
      names = [`${one.host}/team/a:1`, `${two.host}/team/b:1`, `${one.host}/team/c:1`];
      engines = [];
      for (const [index, name] of names.entries()) {
        const layers = [{ bytes: 50 * KB }, { bytes: 20 * KB + index, content: 'random' as const }];
        engines.push(await kind.start(name, { seed: `several-${kind.part}-${index}`, layers }));
      }
    }, 180_000);

    afterAll(async () => {
      for (const engine of engines ?? []) await engine.stop();
      await Promise.all([one?.close(), two?.close()]);
    });

    beforeEach(async () => {
      atManifest = () => undefined;
      kill = () => {};
      await Promise.all([one.reset(), two.reset()]);
    });

    const push = (onOutput?: Parameters<typeof runAction>[0]['onOutput']) => {
      const inputs = { image: names.join('\n'), cache: 'false' };
      return runAction({ inputs, env: engines[0]!.env, ...(onOutput ? { onOutput } : {}) });
    };
    const tags = () => [one.tags('team/a'), two.tags('team/b'), one.tags('team/c')];

    it('are pushed, each where its name says', async () => {
      const run = await push();
      expect(run.errors).toEqual([]);
      expect(
        metadataOf(run)
          .tags.map(({ reference }) => reference)
          .sort(),
      ).toEqual([...names].sort());
      expect(tags()).toEqual([['1'], ['1'], ['1']]);
    });

    it('move no tag anywhere when the third is refused at its manifest', async () => {
      atManifest = (path) => (path.includes('/team/c/') ? 'refuse' : undefined);
      const run = await push();
      expect(run.exitCode).toBe(1);
      expect(run.errors[0]).toContain(`${one.host}/team/c: `);
      expect(run.outputs.digest).toBeUndefined();
      expect(tags()).toEqual([[], [], []]);
    });

    it('leave no new tag when the third is refused at its tag', async () => {
      atManifest = (path) => (path.endsWith('/team/c/manifests/1') ? 'refuse' : undefined);
      const run = await push();
      expect(run.exitCode).toBe(1);
      expect(run.errors[0]).toContain(`${names[2]}: `);
      expect(tags()).toEqual([[], [], []]);
    });

    it('are back where they were when the third is refused at its tag', async () => {
      const [a, b] = [await moveElsewhere(one, 'team/a'), await moveElsewhere(two, 'team/b')];
      atManifest = (path) => (path.endsWith('/team/c/manifests/1') ? 'refuse' : undefined);
      const run = await push();
      expect(run.errors[0]).toMatch(/not for you.*; no tag has moved/);
      expect(run.outputs).not.toHaveProperty('digest');
      expect([one.manifest('team/a', '1')?.digest, two.manifest('team/b', '1')?.digest]).toEqual([a, b]);
    });

    it('are complete after a step that was killed between two tags, and another one', async () => {
      atManifest = (path) => (path.endsWith('/team/b/manifests/1') ? 'kill' : undefined);
      const killed = await push((_, signal) => {
        kill = () => signal('SIGKILL');
      });
      expect(killed.exitCode).toBeUndefined();
      expect(tags()).toEqual([['1'], [], []]);
      atManifest = () => undefined;
      const run = await push();
      expect(run.errors).toEqual([]);
      expect(tags()).toEqual([['1'], ['1'], ['1']]);
      expect(metadataOf(run).bytesSent).toBe(0);
    });
  });
}
