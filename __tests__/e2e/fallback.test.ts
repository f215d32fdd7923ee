import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { refuseOurUploads, slow } from '../support/fault-proxy/faults.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy/proxy.ts';
import { pullBack } from '../support/real/pull.ts';
import { type DockerRegistry, REGISTRY_LOGIN, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { runAction } from '../support/runner.ts';
import { ENGINES, type EngineWithImage } from './engine-images.ts';
import { metadataOf } from './results.ts';

const IMAGE = 'e2e.example/fallback/app:1';
const RECIPE = { seed: 'fallback', layers: [{ bytes: 300_000, content: 'random' as const }, { bytes: 5000 }] };

for (const kind of ENGINES) {
  describeWith([kind.part, 'docker-registry', 'skopeo'], `fallback: engine, with ${kind.name}`, () => {
    let engine: EngineWithImage;
    let registry: DockerRegistry;
    let proxy: FaultProxy;

    beforeAll(async () => {
      registry = await startDockerRegistry();
      engine = await kind.start(IMAGE, RECIPE);
    });

    afterAll(async () => {
      await Promise.all([registry?.stop(), engine?.stop()]);
    });

    beforeEach(async () => {
      proxy = await startFaultProxy({ target: registry.host });
      proxy.faults.add(refuseOurUploads);
    });

    afterEach(() => proxy.close());

    const push = (reference: string, fallback = 'engine') =>
      runAction({ inputs: { image: IMAGE, tags: reference, fallback, 'max-retries': '1' }, env: engine.env });

    it('lets the engine push what the registry refused, says why, and gives its digest', async () => {
      const reference = `${proxy.host}/${kind.part}/app:1`;
      const result = await push(reference);
      expect(result.errors).toEqual([]);
      expect(result.exitCode).toBe(0);
      expect(result.warnings.join('\n')).toMatch(
        /chunked push failed, (docker|podman) pushes: .*no uploads of this kind/,
      );
      const pulled = await pullBack(`${registry.host}/${kind.part}/app:1`);
      expect(result.outputs).toMatchObject({
        digest: pulled.digest,
        image: `${proxy.host}/${kind.part}/app@${pulled.digest}`,
      });
      expect(metadataOf(result).tags).toEqual([{ reference, digest: pulled.digest }]);
      expect(pulled.diffIds).toEqual(engine.diffIds);
    });

    it('leaves the names of the engine as they were', async () => {
      const reference = `${proxy.host}/${kind.part}/names:1`;
      expect((await push(reference)).exitCode).toBe(0);
      await expect(engine.run('image', 'inspect', reference)).rejects.toThrow(/no such image|image not known/i);
      await engine.run('image', 'inspect', IMAGE);
    });

    it('fails without it, with the same words', async () => {
      const result = await push(`${proxy.host}/${kind.part}/none:1`, 'none');
      expect(result.exitCode).toBe(1);
      expect(result.errors[0]).toContain('no uploads of this kind');
      expect(result.outputs).not.toHaveProperty('digest');
    });
  });
}

describeWith(['docker', 'docker-registry'], 'fallback: engine is not for', () => {
  let engine: EngineWithImage;
  let locked: DockerRegistry;
  let folder: string;
  let calls: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-fallback-'));
    engine = await ENGINES[0]!.start('e2e.example/fallback/other:1', RECIPE);
    locked = await startDockerRegistry({ auth: true });
  });

  afterAll(async () => {
    await Promise.all([locked?.stop(), engine?.stop()]);
    rmSync(folder, { recursive: true });
  });

  /** The engine's own client behind a script that notes every call. */
  const counted = (name: string): Readonly<Record<string, string>> => {
    const bin = join(folder, name);
    mkdirSync(bin);
    calls = join(bin, 'calls');
    writeFileSync(calls, '');
    const script = `#!/bin/sh\necho "$*" >>${calls}\nPATH='${engine.env.PATH}' exec docker "$@"\n`;
    writeFileSync(join(bin, 'docker'), script, { mode: 0o755 });
    return { ...engine.env, PATH: `${bin}:${engine.env.PATH}` };
  };
  const pushes = async (): Promise<readonly string[]> => {
    const { readFile } = await import('node:fs/promises');
    return (await readFile(calls, 'utf8')).split('\n').filter((line) => line.startsWith('push'));
  };

  it('wrong credentials: the engine would meet the same', async () => {
    const result = await runAction({
      inputs: {
        image: 'e2e.example/fallback/other:1',
        tags: `${locked.host}/team/app:1`,
        username: REGISTRY_LOGIN.username,
        password: 'wrong-password',
        fallback: 'engine',
      },
      env: counted('credentials'),
    });
    expect(result.exitCode).toBe(1);
    expect(result.errors[0]).toContain('401');
    expect(await pushes()).toEqual([]);
  });

  it('a cancel', async () => {
    const proxy = await startFaultProxy({ target: locked.host });
    proxy.faults.add({
      step: ['upload-patch', 'upload-put'],
      times: Number.POSITIVE_INFINITY,
      fault: slow({ bytesPerSecond: 20_000 }),
    });
    const result = await runAction({
      inputs: {
        image: 'e2e.example/fallback/other:1',
        tags: `${proxy.host}/team/app:1`,
        username: REGISTRY_LOGIN.username,
        password: REGISTRY_LOGIN.password,
        fallback: 'engine',
      },
      env: counted('cancel'),
      onOutput: (text, signal) => {
        if (/: uploading/.test(text)) signal('SIGINT');
      },
    });
    await proxy.close();
    expect(result.exitCode).toBe(1);
    expect(result.errors[0]).toContain('Cancelled');
    expect(await pushes()).toEqual([]);
    expect(locked.manifests()).toEqual([]);
  });
});
