/** Layers that the cache has are not sent again out of `docker save`, whose legacy form does not name them (Docker before 25). */

import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestOf } from '../../src/oci/types.ts';
import { tarOf } from '../source/fixtures.ts';
import { type CacheServer, startCacheServer } from '../support/cache-server.ts';
import { type DockerAddress, docker, imageIdOf } from '../support/real/docker.ts';
import { pullBack } from '../support/real/pull.ts';
import { describeWith, sharedDocker } from '../support/real/suite.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { freshRunner, type Runner, runAction } from '../support/runner.ts';
import { metadataOf } from './results.ts';

/** Bytes. */
const LAYER = 2_000_000;

describeWith(['docker', 'skopeo'], 'docker save of Docker 20.10 beside a warm cache', () => {
  let engine: DockerAddress;
  let folder: string;
  let runner: Runner;
  let registries: Registry[];
  let cache: CacheServer;

  beforeAll(async () => {
    engine = await sharedDocker({ version: 'debian', store: 'overlay2' });
    folder = mkdtempSync(join(tmpdir(), 'save-cached-'));
    for (const name of ['base', 'cached', 'added']) writeFileSync(join(folder, name), randomBytes(LAYER));
    const build = async (tag: string, lines: readonly string[]) => {
      writeFileSync(join(folder, 'Dockerfile'), ['FROM scratch', ...lines, ''].join('\n'));
      await docker(engine, 'build', '--quiet', '--tag', `save-cached:${tag}`, folder);
    };
    // What Go escapes in JSON, and so in the ID that names the topmost layer.
    const labels = ['LABEL maintainer="team <a&b@example.com>"', 'CMD ["/bin/sh", "-c", "a && b > c"]'];
    await build('1', ['COPY base /', 'COPY cached /']);
    await build('2', ['COPY base /', 'COPY cached /', 'COPY added /', ...labels]);
    runner = freshRunner();
    cache = await startCacheServer();
    registries = await Promise.all([startRegistry(), startRegistry(), startRegistry()]);
  }, 180_000);

  afterAll(async () => {
    runner?.remove();
    await cache?.close();
    if (folder) rmSync(folder, { recursive: true });
    await Promise.all((registries ?? []).map((registry) => registry.close()));
    await docker(engine, 'image', 'rm', '--force', 'save-cached:1', 'save-cached:2').catch(() => undefined);
  });

  it('sends each layer once: those of the cache from the cache, the others from save', async () => {
    const push = async (tag: string, { host }: Registry, image = `save-cached:${tag}`) => {
      const inputs = { image, tags: `${host}/team/app:${tag}`, export: 'save', engine: 'docker' };
      const env = { ...engine.env, ...cache.env };
      const run = await runAction({ runner, env, inputs });
      expect(run.errors).toEqual([]);
      return run;
    };
    const [first, second, third] = registries as [Registry, Registry, Registry];
    const archive = join(folder, 'first.tar');
    await docker(engine, 'save', '--output', archive, 'save-cached:1');
    await push('1', first, `docker-archive:${archive}`);
    expect(first.uploadedBytes()).toBeLessThan(2.05 * LAYER);
    // Two of the three layers are in the cache, then all of them.
    for (const registry of [second, third]) {
      const run = await push('2', registry);
      expect(registry.uploadedBytes()).toBeGreaterThan(3 * LAYER);
      expect(registry.uploadedBytes()).toBeLessThan(3.05 * LAYER);
      // Nor is one compressed before it is known to be there: of a large one the upload would have begun by then.
      expect(run.visible).not.toContain('exists already');
      expect(metadataOf(run).bytesSent).toBeLessThan(3.05 * LAYER);
      expect(metadataOf(run).blobs.filter(({ fromCache }) => fromCache).length).toBeGreaterThanOrEqual(2);
      expect((await pullBack(`${registry.host}/team/app:2`)).configDigest).toBe(
        await imageIdOf(engine, 'save-cached:2'),
      );
    }
    expect(third.requests.filter(({ step }) => step === 'upload-post')).toHaveLength(4);
  });
});

describe('an engine that names its layers in a way of its own', () => {
  it('sends each layer once, though only its bytes tell which one it is', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'save-nameless-'));
    const [first, second, cache] = await Promise.all([startRegistry(), startRegistry(), startCacheServer()]);
    const runner = freshRunner();
    try {
      const layers = await Promise.all(
        ['a', 'b', 'c'].map(async (name) => ({ name, tar: await tarOf([{ name, body: randomBytes(LAYER) }]) })),
      );
      const archiveOf = async (kept: typeof layers) => {
        const config = JSON.stringify({
          architecture: 'amd64',
          os: 'linux',
          rootfs: { type: 'layers', diff_ids: kept.map(({ tar }) => digestOf(tar)) },
        });
        const id = digestOf(Buffer.from(config));
        const file = `${id.slice('sha256:'.length)}.json`;
        const Layers = kept.map(({ name }) => `${name}/layer.tar`);
        const archive = await tarOf([
          ...kept.map(({ name, tar }) => ({ name: `${name}/layer.tar`, body: tar })),
          { name: file, body: config },
          { name: 'manifest.json', body: JSON.stringify([{ Config: file, RepoTags: ['x:1'], Layers }]) },
        ]);
        return { id, archive };
      };
      const ends = await archiveOf([layers[0]!, layers[2]!]);
      writeFileSync(join(folder, 'ends.tar'), ends.archive);
      const all = await archiveOf(layers);
      writeFileSync(join(folder, 'all.tar'), all.archive);
      const inspect = [{ Id: all.id, RootFS: { Layers: layers.map(({ tar }) => digestOf(tar)) }, RepoDigests: [] }];
      writeFileSync(join(folder, 'inspect.json'), JSON.stringify(inspect));
      const script = `#!/bin/sh\ncase "$1 $2" in "image inspect") cat '${folder}/inspect.json';; save*) cat '${folder}/all.tar';; *) echo '{}';; esac\n`;
      writeFileSync(join(folder, 'docker'), script, { mode: 0o755 });
      const env = { ...cache.env, PATH: `${folder}${delimiter}${process.env.PATH}` };
      const push = (image: string, { host }: Registry) =>
        runAction({ runner, env, inputs: { image, tags: `${host}/team/app:1`, export: 'save' } });
      expect((await push(`docker-archive:${folder}/ends.tar`, first)).errors).toEqual([]);
      const run = await push('x:1', second);
      expect(run.errors).toEqual([]);
      expect(run.visible).not.toContain('exists already');
      expect(second.uploadedBytes()).toBeLessThan(3.05 * LAYER);
      expect(metadataOf(run).blobs.filter(({ fromCache }) => fromCache)).toHaveLength(2);
      expect((await pullBack(`${second.host}/team/app:1`)).configDigest).toBe(all.id);
    } finally {
      runner.remove();
      await Promise.all([first.close(), second.close(), cache.close()]);
      rmSync(folder, { recursive: true });
    }
  });
});
