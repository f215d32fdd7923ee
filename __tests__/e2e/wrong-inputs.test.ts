import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { smallRecipe, writeDockerArchive } from '../support/images.ts';
import { freePort } from '../support/real/processes.ts';
import { type DockerRegistry, REGISTRY_LOGIN, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { type ActionRun, runAction } from '../support/runner.ts';
import { ENGINES, type EngineWithImage } from './engine-images.ts';

const IMAGE = 'e2e.example/wrong/app:1';
const DIGEST = `sha256:${'a'.repeat(64)}`;

describeWith(['docker', 'docker-registry'], 'a wrong input', () => {
  let folder: string;
  let registry: DockerRegistry;
  let locked: DockerRegistry;
  let engine: EngineWithImage;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-wrong-'));
    await writeDockerArchive(join(folder, 'image.tar'), IMAGE, { seed: 'wrong', layers: [{ bytes: 100_000 }] });
    [registry, locked] = await Promise.all([startDockerRegistry(), startDockerRegistry({ auth: true })]);
    engine = await ENGINES[0]!.start(IMAGE, smallRecipe('wrong'));
  });

  afterAll(async () => {
    await Promise.all([registry?.stop(), locked?.stop(), engine?.stop()]);
    rmSync(folder, { recursive: true });
  });

  const run = (inputs: Readonly<Record<string, string>>, env: Readonly<Record<string, string>> = engine.env) =>
    runAction({ inputs: { image: IMAGE, tags: `${registry.host}/wrong/app:1`, ...inputs }, env });

  /** Exit 1, one error, nothing pushed; gives the error's first line. */
  const firstLine = ({ exitCode, errors, outputs }: ActionRun): string => {
    expect(exitCode).toBe(1);
    expect(errors).toHaveLength(1);
    expect(outputs).not.toHaveProperty('digest');
    expect([...registry.manifests(), ...locked.manifests()]).toEqual([]);
    expect([...registry.openUploads(), ...locked.openUploads()]).toEqual([]);
    return errors[0]!.split('\n')[0]!;
  };

  describe('says in one line what is wrong and what to do:', () => {
    it.each([
      ['no image', { image: '' }, /image/, /write for example/],
      ['a bad reference in image', { image: 'UPPER CASE/app' }, /UPPER CASE\/app/, /./],
      ['a bad reference in tags', { tags: 'registry.example.com/team/app:not a tag' }, /tags.*not a tag/, /./],
      ['tag and digest both', { tags: `registry.example.com/team/app:1@${DIGEST}` }, /tags.*digest/, /./],
      ['a bad chunk-size', { 'chunk-size': '12 parsecs' }, /chunk-size.*12 parsecs/, /95MB/],
      ['a chunk-size of nothing', { 'chunk-size': '0' }, /chunk-size.*"0"/, /95MB/],
      ['a bad concurrency', { concurrency: 'many' }, /concurrency.*many/, /from 1 to/],
      ['an unknown engine', { engine: 'rkt' }, /engine.*rkt/, /docker, podman/],
      ['a bad compression', { compression: 'brotli' }, /compression.*brotli/, /gzip, zstd/],
      ['a username without its password', { username: 'me' }, /password.*username/, /secret/],
      ['an unreadable CA file', { 'ca-file': '/nowhere/ca.pem' }, /ca-file.*\/nowhere\/ca\.pem/, /./],
      ['a bad flag', { 'dry-run': 'perhaps' }, /dry-run.*perhaps/, /true/],
    ])('%s', async (_, inputs, problem, remedy) => {
      const line = firstLine(await run(inputs));
      expect(line).toMatch(problem);
      expect(line).toMatch(remedy);
    });

    it('no such image in the engine', async () => {
      const line = firstLine(await run({ image: 'e2e.example/never/built:1' }));
      expect(line).toMatch(/e2e\.example\/never\/built:1.*docker/);
    });

    it('no such file', async () => {
      expect(firstLine(await run({ image: 'docker-archive:/nowhere/image.tar' }))).toContain('/nowhere/image.tar');
    });

    it('no engine at all', async () => {
      const line = firstLine(await run({}, { PATH: folder }));
      expect(line).toMatch(/docker.*podman/);
      expect(line).toMatch(/docker-archive:/);
    });

    it('an engine that does not answer', async () => {
      const line = firstLine(
        await run({ engine: 'docker' }, { DOCKER_HOST: `unix://${folder}/none.sock`, PATH: engine.env.PATH! }),
      );
      expect(line).toMatch(/docker/i);
      expect(line).toMatch(/none\.sock|daemon/);
    });

    it('an unknown host', async () => {
      const line = firstLine(await run({ tags: 'registry.invalid/team/app:1' }));
      expect(line).toMatch(/registry\.invalid/);
      expect(line).toMatch(/name|found|host/);
    });

    it('a host where nobody listens', async () => {
      const port = await freePort();
      expect(firstLine(await run({ tags: `127.0.0.1:${port}/team/app:1`, 'max-retries': '0' }))).toMatch(
        new RegExp(`127\\.0\\.0\\.1:${port}`),
      );
    });

    it('a wrong password', async () => {
      const inputs = {
        tags: `${locked.host}/team/app:1`,
        username: REGISTRY_LOGIN.username,
        password: 'wrong-password',
      };
      const result = await run(inputs);
      const line = firstLine(result);
      expect(line).toMatch(/401|credentials|password/);
      expect(line).toContain(locked.host);
      expect(result.visible).not.toContain('wrong-password');
    });

    it('no password where one is needed', async () => {
      const line = firstLine(await run({ tags: `${locked.host}/team/app:1` }));
      expect(line).toContain(locked.host);
      expect(line).toMatch(/username|login/);
    });

    it('an archive that is none', async () => {
      const file = new URL(import.meta.url).pathname;
      const line = firstLine(await run({ image: `docker-archive:${file}` }));
      expect(line).toContain(file);
      expect(line).toMatch(/neither a tar file.*docker save/);
    });
  });

  it('nothing is wrong with these inputs otherwise', async () => {
    const { username, password } = REGISTRY_LOGIN;
    const [file, built] = [`docker-archive:${join(folder, 'image.tar')}`, IMAGE];
    for (const [index, image] of [file, built].entries()) {
      const result = await run({ image, tags: `${locked.host}/right/app:${index}`, username, password });
      expect(result.errors).toEqual([]);
      expect(result.outputs.digest).toMatch(/^sha256:/);
    }
    expect(locked.manifests()).toHaveLength(2);
  });
});
