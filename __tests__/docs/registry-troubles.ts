/** The troubles of TROUBLESHOOTING.md with registries, proxies and credentials that are not what they should be. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { join } from 'node:path';
import { freePort } from '../support/real/processes.ts';
import { startDockerRegistry } from '../support/real/registry.ts';
import { loopbackCertificate } from '../support/registry/certificate.ts';
import { runAction } from '../support/runner.ts';

type Inputs = Readonly<Record<string, string>>;
type Env = Readonly<Record<string, string>>;

interface Bench {
  readonly folder: string;
  readonly image: string;
}

const failed = async (bench: Bench, host: string, inputs: Inputs = {}, env: Env = {}): Promise<string> => {
  const { errors } = await runAction({
    inputs: { image: bench.image, tags: `${host}/team/app:1`, 'max-retries': '0', ...inputs },
    env,
  });
  return errors[0]?.split('\n')[0] ?? 'no error';
};

/** A push to a server that answers so. */
async function failedAt(bench: Bench, answer: RequestListener, inputs: Inputs = {}): Promise<string> {
  const server = createServer((request, response) => {
    request.resume();
    answer(request, response);
  });
  return await failedOn(bench, server, inputs);
}

async function failedOn(bench: Bench, server: Server, inputs: Inputs): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    return await failed(bench, `127.0.0.1:${(server.address() as AddressInfo).port}`, inputs);
  } finally {
    server.close();
  }
}

const json = (code: string, message: string): string => JSON.stringify({ errors: [{ code, message }] });

/** By a name for the test; each resolves to the line of the log. */
export const REGISTRY_TROUBLES: Readonly<Record<string, (bench: Bench) => Promise<string>>> = {
  'a page that answers 200 to everything': (bench) =>
    failedAt(bench, (_, response) => {
      response.writeHead(200, { 'content-type': 'text/html' }).end('<html><title>Welcome</title></html>');
    }),
  'a server that answers 200 to everything, without a page': (bench) =>
    failedAt(bench, (_, response) => void response.writeHead(200, { 'content-length': '0' }).end()),
  'something that is no registry': (bench) =>
    failedAt(bench, (_, response) => {
      response.writeHead(404, { 'content-type': 'text/html' }).end('<html><title>404 Not Found</title></html>');
    }),
  'an owner that Gitea does not know': (bench) =>
    failedAt(bench, ({ url }, response) => {
      response.setHeader('docker-distribution-api-version', 'registry/2.0');
      response.writeHead(url === '/v2/' ? 200 : 404).end();
    }),
  'a read-only registry': async (bench) => {
    const registry = await startDockerRegistry({ takesNoPushes: 'read-only' });
    const line = await failed(bench, registry.host);
    await registry.stop();
    return line;
  },
  'a pull-through cache': async (bench) => {
    const behind = await startDockerRegistry();
    const cache = await startDockerRegistry({ takesNoPushes: { cacheOf: `http://${behind.host}` } });
    const line = await failed(bench, cache.host);
    await Promise.all([cache.stop(), behind.stop()]);
    return line;
  },
  'a server that allows GET only': (bench) =>
    failedAt(bench, ({ method }, response) => {
      const isRead = method === 'GET' || method === 'HEAD';
      response.writeHead(isRead ? 404 : 405).end(isRead ? json('MANIFEST_UNKNOWN', 'unknown') : '');
    }),
  'a Location without the port': (bench) =>
    failedAt(bench, ({ method }, response) => {
      if (method !== 'POST') return void response.writeHead(404).end(json('BLOB_UNKNOWN', 'unknown'));
      response.writeHead(202, { location: 'http://127.0.0.1/v2/team/app/blobs/uploads/1', range: '0-0' }).end();
    }),
  'a redirect that changes the method': (bench) =>
    failedAt(bench, ({ method, url }, response) => {
      if (method !== 'POST') return void response.writeHead(404).end(json('BLOB_UNKNOWN', 'unknown'));
      response.writeHead(301, { location: `https://registry.example.com${url}` }).end();
    }),
  'a dead proxy': async (bench) =>
    failed(bench, 'registry.invalid', {}, { HTTPS_PROXY: `http://127.0.0.1:${await freePort()}` }),
  'an address of a proxy that is none': (bench) =>
    failed(bench, 'registry.invalid', {}, { HTTPS_PROXY: 'http://me:p#ss@proxy.example.com:3128' }),
  'a client certificate that is missing': (bench) => {
    const { key, cert } = loopbackCertificate();
    const file = join(bench.folder, 'mutual.pem');
    writeFileSync(file, cert);
    const options = { key, cert, ca: cert, requestCert: true, rejectUnauthorized: true };
    return failedOn(
      bench,
      createHttpsServer(options, (_, response) => void response.end()),
      { 'ca-file': file },
    );
  },
  'a client certificate without its key': async (bench) => {
    const host = `127.0.0.1:${await freePort()}`;
    const home = join(bench.folder, 'home');
    mkdirSync(join(home, '.config/docker/certs.d', host), { recursive: true });
    writeFileSync(join(home, '.config/docker/certs.d', host, 'client.cert'), loopbackCertificate().cert);
    return failed(bench, host, {}, { HOME: home });
  },
  'a credential helper that is not installed': async (bench) => {
    const home = join(bench.folder, 'home-with-helper');
    mkdirSync(join(home, '.docker'), { recursive: true });
    writeFileSync(join(home, '.docker/config.json'), JSON.stringify({ credsStore: 'nowhere' }));
    const registry = await startDockerRegistry({ auth: true });
    const line = await failed(bench, registry.host, {}, { HOME: home });
    await registry.stop();
    return line;
  },
};
