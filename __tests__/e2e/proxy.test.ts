/** Pushes through the proxies that a runner's environment names: what dist holds of undici must be enough for them. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { proxyTo } from '../registry/helpers/proxy.ts';
import { writeDockerArchive } from '../support/images.ts';
import { type RegistryOptions, startRegistry } from '../support/registry/server.ts';
import { runAction } from '../support/runner.ts';

const tls = (name: string): string => fileURLToPath(new URL(`../fixtures/tls/${name}`, import.meta.url));

let folder: string;
let archive: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'proxy-'));
  archive = join(folder, 'image.tar');
  await writeDockerArchive(archive, 'app:1', { seed: 'proxy', layers: [{ bytes: 3_000_000 }, { bytes: 200_000 }] });
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function pushBehindProxy(options: RegistryOptions, variable: string, inputs: Readonly<Record<string, string>>) {
  const registry = await startRegistry(options);
  onTestFinished(() => registry.close());
  const proxy = await proxyTo(registry.host);
  const image = `docker-archive:${archive}`;
  const run = await runAction({
    inputs: { image, tags: 'registry.test/team/app:1', cache: 'false', 'chunk-size': '1MiB', ...inputs },
    env: { [variable]: proxy.url },
  });
  return { run, asked: proxy.asked, registry };
}

it('HTTPS goes through a tunnel', async () => {
  const served = { key: readFileSync(tls('server.key'), 'utf8'), cert: readFileSync(tls('server.pem'), 'utf8') };
  const { run, asked } = await pushBehindProxy({ tls: served }, 'HTTPS_PROXY', { 'ca-file': tls('ca.pem') });
  expect(run.errors).toEqual([]);
  expect(run.outputs.digest).toMatch(/^sha256:/);
  expect(new Set(asked)).toEqual(new Set(['CONNECT registry.test:443 -']));
});

it('plain HTTP is asked of the proxy, with the whole address', async () => {
  const { run, asked } = await pushBehindProxy({}, 'HTTP_PROXY', { insecure: 'true' });
  expect(run.errors).toEqual([]);
  expect(run.outputs.digest).toMatch(/^sha256:/);
  // The first request is a useful one.
  expect(asked[0]).toMatch(/^(GET|HEAD) http:\/\/registry\.test\/v2\/team\/app\/\S+ -$/);
  expect(asked.some((line) => line.startsWith('PATCH http://registry.test/v2/team/app/blobs/uploads/'))).toBe(true);
});
