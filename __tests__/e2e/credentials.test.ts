import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, onTestFinished } from 'vitest';
import { refuseOurUploads } from '../support/fault-proxy/faults.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy/proxy.ts';
import { writeDockerArchive } from '../support/images.ts';
import { type DockerRegistry, REGISTRY_LOGIN, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { freshRunner, runAction } from '../support/runner.ts';
import { ENGINES, type EngineWithImage } from './engine-images.ts';

const { username, password } = REGISTRY_LOGIN;
const IMAGE = 'e2e.example/credentials/app:1';
const RECIPE = { seed: 'credentials', layers: [{ bytes: 300_000, content: 'random' as const }] };

const base64 = (text: string): string => Buffer.from(text).toString('base64');

describeWith(['docker-registry'], 'username and password', () => {
  let registry: DockerRegistry;
  let folder: string;
  let image: string;

  beforeAll(async () => {
    registry = await startDockerRegistry({ auth: true });
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-credentials-'));
    await writeDockerArchive(join(folder, 'image.tar'), 'a/b:1', RECIPE);
    image = `docker-archive:${join(folder, 'image.tar')}`;
  });

  afterAll(async () => {
    await registry?.stop();
    rmSync(folder, { recursive: true });
  });

  /** A registry that wants to know who asks, and notes what it was shown. */
  async function curious(): Promise<{ host: string; shown: IncomingMessage[] }> {
    const shown: IncomingMessage[] = [];
    const server = createServer((request, response) => {
      request.resume();
      shown.push(request);
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, shown };
  }

  it('belong to the registry of the first tag, and the log says so', async () => {
    const other = await curious();
    const tags = `${registry.host}/team/app:1\n${other.host}/somebody/else:1`;
    const run = await runAction({ inputs: { image, tags, username, password } });
    expect(run.exitCode).toBe(1);
    expect(registry.manifests()).toHaveLength(1);
    expect(other.shown.map(({ headers }) => headers.authorization).filter(Boolean)).toEqual([]);
    expect(run.log).toContain(
      `The inputs username and password are for ${registry.host} alone; for ${other.host} none were found`,
    );
    expect(run.errors[0]).toContain(`no credentials for ${other.host} were found`);
  });

  it('that are missing or good: a dry run says what the registry takes, and what is in the way', async () => {
    const inputs = { image, tags: `${registry.host}/team/dry:1`, 'dry-run': 'true' };
    const without = await runAction({ inputs });
    expect(without).toMatchObject({ exitCode: 1, errors: [expect.stringContaining('401 Unauthorized')] });
    expect(without.log).toMatch(/^ {2}credentials {3}basic: none were found; no push$/m);
    expect(without.log).toMatch(/^ {2}inputs {8}username: a user who may push, password: a secret$/m);
    const full = await runAction({ inputs: { ...inputs, username, password } });
    expect(full).toMatchObject({ exitCode: 0, errors: [] });
    expect(full.log).toMatch(/^ {2}largest body {2}at least 1\.1 GB/m);
    expect(registry.openUploads()).toEqual([]);
  });

  it('leave the other registry its own login', async () => {
    const other = await curious();
    const runner = freshRunner();
    onTestFinished(() => runner.remove());
    mkdirSync(join(runner.home, '.docker'), { recursive: true });
    const auths = { [registry.host]: { auth: base64(`${username}:${password}`) } };
    writeFileSync(join(runner.home, '.docker/config.json'), JSON.stringify({ auths }));
    const tags = `${other.host}/somebody/else:1\n${registry.host}/team/own:1`;
    const run = await runAction({ inputs: { image, tags, username: 'me', password: 'of-the-first' }, runner });
    expect(registry.manifests().some((name) => name.startsWith('team/own@'))).toBe(true);
    expect(run.log).toContain(`alone; for ${registry.host} ${join(runner.home, '.docker/config.json')} is used`);
    expect(new Set(other.shown.map(({ headers }) => headers.authorization).filter(Boolean))).toEqual(
      new Set([`Basic ${base64('me:of-the-first')}`]),
    );
  });

  it.each(['\n', '\r\n'])('may end in one line break, as for docker/login-action: %j', async (end) => {
    const tags = `${registry.host}/team/line-break:1`;
    const run = await runAction({ inputs: { image, tags, username, password: `${password}${end}` } });
    expect(run.errors).toEqual([]);
    expect(run.exitCode).toBe(0);
  });
});

for (const kind of ENGINES) {
  describeWith(
    [kind.part, 'docker-registry'],
    `fallback: engine with the inputs' credentials, with ${kind.name}`,
    () => {
      let engine: EngineWithImage;
      let registry: DockerRegistry;
      let proxy: FaultProxy;

      beforeAll(async () => {
        registry = await startDockerRegistry({ auth: true });
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

      it.each([
        ['nothing', undefined],
        ['another login for it', (host: string) => ({ auths: { [host]: { auth: base64('somebody:else') } } })],
        ['a store that does not work', () => ({ credsStore: 'not-installed' })],
      ])('pushes as the user of the inputs, where the files have %s; no file stays behind', async (_, config) => {
        const runner = freshRunner();
        onTestFinished(() => runner.remove());
        if (config !== undefined) {
          mkdirSync(join(runner.home, '.docker'), { recursive: true });
          writeFileSync(join(runner.home, '.docker/config.json'), JSON.stringify(config(proxy.host)));
        }
        const tags = `${proxy.host}/${kind.part}/app:1`;
        const inputs = { image: IMAGE, tags, username, password, fallback: 'engine', 'max-retries': '0' };
        const { HOME: _home, ...env } = engine.env;
        const run = await runAction({ inputs, env, runner });
        expect(run.warnings.join('\n')).not.toContain('The fallback failed');
        expect(run.exitCode).toBe(0);
        expect(run.outputs.digest).toMatch(/^sha256:/);
        expect(readdirSync(runner.temp).filter((name) => name.includes('login'))).toEqual([]);
      });
    },
  );
}
