import { readFileSync } from 'node:fs';
import { createServer as createHttpsServer } from 'node:https';
import { describe, expect, it } from 'vitest';
import { caught, connect, listen, never, read, serve } from '../helpers/loopback.ts';
import { proxyTo } from '../helpers/proxy.ts';

const fixture = (name: string): string => readFileSync(new URL(`../../fixtures/tls/${name}`, import.meta.url), 'utf8');
const CA = fixture('ca.pem');

const https = (): Promise<string> =>
  listen(
    createHttpsServer({ key: fixture('server.key'), cert: fixture('server.pem') }, async (request, response) =>
      response.end(String((await read(request)).length)),
    ),
  );

const send = ({ transport, url }: ReturnType<typeof connect>) =>
  transport.send({ method: 'PATCH', url: url('/v2/a'), body: Buffer.alloc(300_000), signal: never() });

describe('proxies of the environment', () => {
  it('HTTPS_PROXY is for HTTPS: the registry is reached through a tunnel', async () => {
    const proxy = await proxyTo(await https());
    const env = { HTTPS_PROXY: proxy.url, HTTP_PROXY: 'http://127.0.0.1:1' };
    const response = await send(connect('registry.test', { env, ca: CA }));
    expect(await response.text()).toBe('300000');
    expect(new Set(proxy.asked)).toEqual(new Set(['CONNECT registry.test:443 -']));
  });

  it('http_proxy is for plain HTTP, and may be written without a scheme', async () => {
    const server = await serve(async (request, response) => void response.end(String((await read(request)).length)));
    const proxy = await proxyTo(server.host);
    const env = { http_proxy: proxy.url.replace('http://', '') };
    const response = await send(connect('registry.test', { env, insecure: true }));
    expect(await response.text()).toBe('300000');
    expect(proxy.asked).toEqual(['PATCH http://registry.test/v2/a -']);
  });

  it('a password of the proxy is sent to it, and is announced as a secret', async () => {
    const proxy = await proxyTo(await https());
    const env = { HTTPS_PROXY: proxy.url.replace('//', '//me:proxy%20pass@') };
    const connected = connect('registry.test', { env, ca: CA });
    await send(connected);
    const basic = Buffer.from('me:proxy pass').toString('base64');
    expect(proxy.asked[0]).toBe(`CONNECT registry.test:443 Basic ${basic}`);
    const secrets = connected.events.flatMap((event) => (event.type === 'secret' ? [event.value] : []));
    expect(secrets).toEqual(expect.arrayContaining(['proxy pass', 'proxy%20pass', basic]));
  });

  it('NO_PROXY and loopback hosts go straight', async () => {
    const server = await serve((_, response) => void response.end());
    const env = { HTTPS_PROXY: 'http://127.0.0.1:1', HTTP_PROXY: 'http://127.0.0.1:1' };
    expect((await send(connect(server.host, { env }))).status).toBe(200);
    const unproxied = connect('registry.invalid', { env: { ...env, NO_PROXY: '.invalid' } });
    expect((await caught(send(unproxied))).kind).toBe('dns');
    const proxied = connect('registry.invalid', { env });
    const error = await caught(send(proxied));
    expect(error.kind).toBe('proxy');
    expect(error.message).toContain('no connection to the proxy http://127.0.0.1:1 (ECONNREFUSED)');
  });

  it.each(['http://', 'ftp://proxy.test:21', 'https://proxy.test/path', 'proxy.test/?a=b'])(
    '%s is no address of a proxy, which is told before anything is sent',
    (HTTPS_PROXY) => {
      expect(() => connect('registry.test', { env: { HTTPS_PROXY } })).toThrow(
        'HTTPS_PROXY holds no address of a proxy',
      );
    },
  );

  it.each([
    [407, false],
    [502, true],
  ])('a refusal by the proxy (%i) names it', async (status, temporary) => {
    const proxy = await proxyTo('127.0.0.1:1', status);
    const error = await caught(send(connect('registry.test', { env: { HTTPS_PROXY: proxy.url }, ca: CA })));
    expect(error).toMatchObject({ kind: 'proxy', temporary });
    expect(error.message).toContain(`the proxy refused with status ${status}`);
    expect(error.remedy).toContain('HTTPS_PROXY');
  });
});
