/** What `doctor` says about limits of every kind, and about servers that are not what they should be. */
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Diagnosis } from '../../src/push/diagnosis.ts';
import { examine } from '../../src/push/doctor.ts';
import type { RawInputs } from '../../src/push/input-values.ts';
import { diagnosisLines } from '../../src/report/lines.ts';
import { proxyTo } from '../registry/helpers/proxy.ts';
import { startNginx } from '../support/real/nginx.ts';
import { startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { loopbackCertificate } from '../support/registry/certificate.ts';
import { TEST_CREDENTIALS } from '../support/registry/profiles.ts';
import { registryForTest, requestForTest } from './bench.ts';

const MIB = 2 ** 20;

/** Shorter than the usual one, where nothing is answered. */
const IMPATIENT = { answerMs: 300, totalMs: 1000 };

async function diagnose(host: string, raw: RawInputs = {}, patience?: typeof IMPATIENT): Promise<Diagnosis> {
  const request = await requestForTest({ ...raw, tags: `${host}/team/app:1`, image: `${host}/team/app:1` });
  return examine(request.destinations[0]!, request, () => {}, new AbortController().signal, patience);
}

async function serve(answer: RequestListener): Promise<string> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A proxy that reads each body completely; `judge` may answer in the registry's place, before or after that. */
const readingProxy = (
  registry: string,
  judge: { headers?: (request: IncomingMessage) => Refusal | undefined; body?: (bytes: number) => Refusal | undefined },
): Promise<string> =>
  serve(async (request, response) => {
    const early = judge.headers?.(request);
    if (early !== undefined) return early(response);
    const body = await buffer(request).catch(() => undefined);
    // The client has gone.
    if (body === undefined) return;
    const late = judge.body?.(body.length);
    if (late !== undefined) return late(response);
    const { connection: _, 'content-length': __, ...headers } = request.headers as Record<string, string>;
    const hasBody = request.method !== 'GET' && request.method !== 'HEAD';
    const answer = await fetch(`http://${registry}${request.url}`, {
      method: request.method!,
      headers,
      ...(hasBody ? { body: new Uint8Array(body) } : {}),
    });
    response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(await answer.text());
  });

type Refusal = (response: ServerResponse) => void;

const hangUp: Refusal = (response) => void response.socket?.resetAndDestroy();

describeWith(['docker-registry', 'nginx'], 'nginx before docker-registry', () => {
  it('with a limit under one MiB', async () => {
    const registry = await startDockerRegistry();
    const nginx = await startNginx({ upstream: registry.host, clientMaxBodySize: '600k' });
    try {
      expect(await diagnose(nginx.host)).toMatchObject({
        largestBody: MIB / 2,
        refusedBody: { bytes: MIB, reason: '413 Request Entity Too Large' },
        inputs: { 'chunk-size': String(MIB / 2) },
        problem: undefined,
      });
    } finally {
      await nginx.stop();
      await registry.stop();
    }
  });

  it('with a limit that no chunk of a push is under', async () => {
    const registry = await startDockerRegistry();
    const nginx = await startNginx({ upstream: registry.host, clientMaxBodySize: '10k' });
    try {
      const diagnosis = await diagnose(nginx.host);
      expect(diagnosis).toMatchObject({ largestBody: undefined, refusedBody: { bytes: 65536 }, inputs: {} });
      expect(diagnosis.problem).toMatch(/a body of 65536 bytes is refused \(413 .*raise the body limit of the proxy/);
      expect(registry.openUploads()).toEqual([]);
    } finally {
      await nginx.stop();
      await registry.stop();
    }
  });
});

describe('a limit in front of a registry that announces chunk lengths', () => {
  it('is smaller than what it announces', async () => {
    const registry = await registryForTest({ profile: 'serverless', limit: 10 * MIB });
    expect(await diagnose(registry.host)).toMatchObject({
      largestBody: 10 * MIB,
      inputs: { 'chunk-size': String(10 * MIB) },
      problem: undefined,
    });
  });

  it('and smaller than the least that it takes leaves no way', async () => {
    const registry = await registryForTest({ profile: 'serverless', limit: 4 * MIB });
    const { problem, inputs } = await diagnose(registry.host);
    expect(problem).toMatch(/is refused \(413 .*asks for chunks of at least 5242880 bytes/);
    expect(inputs).toEqual({});
  });
});

describe('a limit that is no early 413', () => {
  it.each<[string, Refusal, string]>([
    [
      'a page of a firewall',
      (response) => void response.writeHead(403, { 'content-type': 'text/html' }).end('<title>Blocked</title>'),
      '403 Forbidden: Blocked',
    ],
    ['a reset', hangUp, 'ECONNRESET'],
  ])('by the headers: %s', async (_, refuse, reason) => {
    const registry = await registryForTest();
    const host = await readingProxy(registry.host, {
      headers: ({ headers }) => (Number(headers['content-length'] ?? 0) > 3 * MIB ? refuse : undefined),
    });
    const before = registry.contents();
    expect(await diagnose(host)).toMatchObject({
      largestBody: 2 * MIB,
      refusedBody: { bytes: 4 * MIB, reason: expect.stringContaining(reason) },
      inputs: { 'chunk-size': String(2 * MIB) },
    });
    expect(registry.contents()).toEqual(before);
  });

  it.each<[string, Refusal, string]>([
    ['413', (response) => void response.writeHead(413).end(), '413'],
    ['a reset', hangUp, 'ECONNRESET'],
  ])('after the body was read: %s', async (_, refuse, reason) => {
    const registry = await registryForTest();
    const host = await readingProxy(registry.host, { body: (bytes) => (bytes > 6 * MIB ? refuse : undefined) });
    const before = registry.contents();
    expect(await diagnose(host)).toMatchObject({
      largestBody: 5 * MIB,
      refusedBody: { bytes: 8 * MIB, reason: expect.stringContaining(reason) },
      inputs: { 'chunk-size': String(5 * MIB) },
      problem: undefined,
    });
    expect(registry.contents()).toEqual(before);
  });

  it('of GHCR, which speaks of ranges', async () => {
    const registry = await registryForTest({ profile: 'ghcr' });
    expect(await diagnose(registry.host)).toMatchObject({
      largestBody: 4 * MIB,
      refusedBody: { reason: expect.stringContaining('maximum permissible limit') },
      inputs: { 'chunk-size': String(4 * MIB) },
    });
  });

  it('of the number of requests is waited for, and leaves nothing behind', async () => {
    const registry = await registryForTest({ profile: 'hub', refuseEvery: 4, retryAfter: () => '0' });
    const before = registry.contents();
    const diagnosis = await diagnose(registry.host, TEST_CREDENTIALS);
    expect(diagnosis).toMatchObject({ mayPush: true, refusedBody: undefined, problem: undefined });
    expect(registry.contents()).toEqual(before);
  });
});

it('a registry that wants large parts takes chunks', async () => {
  const registry = await registryForTest({ profile: 'ecr' });
  const before = registry.contents();
  const diagnosis = await diagnose(registry.host);
  expect(diagnosis).toMatchObject({ takesChunks: true, refusedChunk: 65536, inputs: {}, problem: undefined });
  expect(diagnosisLines(diagnosis).join('\n')).toContain('taken, but not one of 65.5 kB');
  expect(registry.contents()).toEqual(before);
});

describe('a server that', () => {
  it.each<[string, RequestListener, RegExp]>([
    ['never answers', () => {}, /GET .*\/v2\/: no answer within 300 ms$/],
    [
      'answers to questions only',
      ({ method }, response) => void (method === 'GET' && response.end('{}')),
      /POST .*: no answer within 300 ms$/,
    ],
    [
      'never ends its answer',
      (_, response) => {
        response.write('.');
        const drip = setInterval(() => response.write('.'), 100);
        response.once('close', () => clearInterval(drip));
      },
      /not done after 1 s$/,
    ],
    [
      'leads everybody to its login',
      ({ url }, response) =>
        void (url === '/login' ? response.end('<p>') : response.writeHead(301, { location: '/login' }).end()),
      /was redirected with status 301 to .*\/login: .* does not answer as a container registry/,
    ],
    [
      'has no page for us',
      (_, response) => void response.writeHead(404, { 'content-type': 'text/html' }).end('<title>Nothing</title>'),
      /404 Not Found: Nothing: .* does not answer as a container registry/,
    ],
    [
      'is a registry and knows no such owner',
      ({ url }, response) =>
        void response
          .writeHead(url === '/v2/' ? 200 : 404, { 'docker-distribution-api-version': 'registry/2.0' })
          .end(),
      /404 Not Found: .* knows no team\/app: create the user/,
    ],
    ['is ill', (_, response) => void response.writeHead(503).end('resting'), /503 Service Unavailable: resting$/],
  ])('%s', async (_, answer, problem) => {
    const diagnosis = await diagnose(await serve(answer), {}, IMPATIENT);
    expect(diagnosis).toMatchObject({ mayPush: false, inputs: {}, problem: expect.stringMatching(problem) });
  });

  it('leads to the login of another host', async () => {
    const login = await serve((_, response) => {
      response.writeHead(200, { 'content-type': 'text/html' }).end('<title>Sign in</title>');
    });
    const host = await serve((_, response) => void response.writeHead(302, { location: `http://${login}/` }).end());
    const { problem } = await diagnose(host);
    expect(problem).toMatch(/was redirected with status 302 to .* does not answer as a container registry/);
  });

  it('lets push and answers no questions is examined nevertheless', async () => {
    const registry = await registryForTest();
    const host = await readingProxy(registry.host, {
      headers: ({ url }) => (url === '/v2/' ? (response) => void response.writeHead(404).end() : undefined),
    });
    expect(await diagnose(host)).toMatchObject({ mayPush: true, takesChunks: true, problem: undefined });
  });

  it('is behind a proxy is reached through it alone', async () => {
    const { key, cert } = loopbackCertificate();
    const registry = await registryForTest({ tls: { key, cert } });
    const proxy = await proxyTo(registry.host);
    const image = 'registry.invalid/team/app:1';
    const request = await requestForTest({ tags: image, image, 'tls-verify': 'false' });
    const options = { ...request, env: { HTTPS_PROXY: proxy.url } };
    const diagnosis = await examine(request.destinations[0]!, options, () => {}, new AbortController().signal);
    expect(diagnosis).toMatchObject({ scheme: 'https', certificate: undefined, mayPush: true, problem: undefined });
    expect(diagnosisLines(diagnosis)).toContain('  certificate   not seen (a proxy, or no TLS)');
    expect(new Set(proxy.asked)).toEqual(new Set(['CONNECT registry.invalid:443 -']));
  });

  it('speaks TLS where plain HTTP is asked for says so', async () => {
    const { key, cert } = loopbackCertificate();
    const registry = await registryForTest({ tls: { key, cert } });
    const diagnosis = await diagnose(registry.host, { insecure: 'true' });
    expect(diagnosis).toMatchObject({ scheme: 'https', problem: expect.stringMatching(/leave insecure out$/) });
    expect(diagnosis.inputs).not.toHaveProperty('insecure');
  });
});
