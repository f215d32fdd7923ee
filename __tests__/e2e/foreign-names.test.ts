import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { writeDockerArchive } from '../support/images.ts';
import { rootPrefix } from '../support/real/processes.ts';
import { runAction } from '../support/runner.ts';

/** The host file of a network in which a registry's names lead to a machine's metadata service. */
const HOSTS = '127.0.0.1 localhost registry.test\\n169.254.169.254 metadata.test\\n';

/** In namespaces of its own: its own hosts file, and no network but loopback, so that a wrong request would not get anywhere. */
const inNetwork = [
  ...rootPrefix(),
  'unshare',
  '--mount',
  'sh',
  '-ec',
  `printf '${HOSTS}' >"$RUNNER_TEMP/hosts"; mount --bind "$RUNNER_TEMP/hosts" /etc/hosts; exec "$@"`,
  'sh',
];

describe('names that a registry gives and that lead to link-local addresses', () => {
  let folder: string;
  let image: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-names-'));
    const file = join(folder, 'image.tar');
    await writeDockerArchive(file, 'a/b:1', { seed: 'names', layers: [{ bytes: 1000 }] });
    image = `docker-archive:${file}`;
  });

  afterAll(() => rmSync(folder, { recursive: true }));

  async function pushTo(answer: RequestListener): Promise<string> {
    const server = createServer((request, response) => {
      request.resume();
      answer(request, response);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;
    const inputs = { image, tags: `registry.test:${port}/a/b:1`, insecure: 'true', 'max-retries': '0' };
    const run = await runAction({ inputs: { ...inputs, username: 'me', password: 'pw-12345' }, prefix: inNetwork });
    expect(run.exitCode).toBe(1);
    return run.errors[0] ?? '';
  }

  const elsewhere = 'http://metadata.test/latest/meta-data';

  it.each([
    [
      'Location',
      ({ method }, response) =>
        response
          .writeHead(method === 'POST' ? 202 : 404, method === 'POST' ? { location: elsewhere, range: '0-0' } : {})
          .end(),
    ],
    [
      'redirect',
      ({ method }, response) =>
        response.writeHead(method === 'POST' ? 307 : 404, method === 'POST' ? { location: elsewhere } : {}).end(),
    ],
    ['redirect of a GET', (_, response) => response.writeHead(302, { location: elsewhere }).end()],
    [
      'token realm',
      (_, response) => response.writeHead(401, { 'www-authenticate': `Bearer realm="${elsewhere}",service="x"` }).end(),
    ],
  ] as [string, RequestListener][])('are not followed: %s', async (_, answer) => {
    expect(await pushTo(answer)).toContain('metadata.test is 169.254.169.254, a link-local address: not followed');
  });
});
