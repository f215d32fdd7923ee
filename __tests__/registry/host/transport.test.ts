import { readFileSync } from 'node:fs';
import type { RequestListener } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { describe, expect, it } from 'vitest';
import { Backoff } from '../../../src/registry/host/throttle.ts';
import { errorOf } from '../../../src/registry/http/error.ts';
import { CookieJar } from '../../../src/registry/upload/session.ts';
import { bodyOf, caught, connect, listen, never, read, serve, serveRaw, turns } from '../helpers/loopback.ts';

const fixture = (name: string): string => readFileSync(new URL(`../../fixtures/tls/${name}`, import.meta.url), 'utf8');
const CA = fixture('ca.pem');

const https = (listener: RequestListener = (_, response) => void response.end()): Promise<string> =>
  listen(createHttpsServer({ key: fixture('server.key'), cert: fixture('server.pem') }, listener));

describe('connections', () => {
  it('are kept and used again', async () => {
    const ports = new Set<number | undefined>();
    const server = await serve((request, response) => {
      ports.add(request.socket.remotePort);
      response.end('{}');
    });
    const { transport, url } = connect(server.host);
    for (let n = 0; n < 5; n++) {
      await (await transport.send({ method: 'GET', url: url('/a'), signal: never() })).text();
      await turns();
    }
    expect(ports.size).toBe(1);
  });

  it('are kept after HEAD too, also where a server says nothing of keeping them (Go)', async () => {
    let connections = 0;
    const host = await serveRaw((socket) => {
      connections++;
      const answers = { HEAD: 'Content-Length: 100\r\n\r\n', GET: 'Content-Length: 2\r\n\r\nok' };
      socket.on('data', (head) =>
        socket.write(`HTTP/1.1 200 OK\r\n${answers[`${head}`.startsWith('HEAD') ? 'HEAD' : 'GET']}`),
      );
    });
    const { transport, url } = connect(host);
    for (const method of ['HEAD', 'HEAD', 'GET', 'HEAD']) {
      const response = await transport.send({ method, url: url('/a'), signal: never() });
      await response.discard();
    }
    expect(connections).toBe(1);
  });

  it.each(['at once', 'later'])(
    'end by a body that a server sends after HEAD, %s: a temporary error at most',
    async (when) => {
      const host = await serveRaw((socket) => {
        const send = (text: string) => socket.write(`HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\n${text}`);
        socket.on('data', (head) => {
          if (!`${head}`.startsWith('HEAD')) return send('none');
          if (when === 'at once') return send('none');
          send('');
          return setTimeout(() => socket.write('none'), 1);
        });
      });
      const { transport, url } = connect(host);
      const errors: unknown[] = [];
      for (let n = 0; n < 20; n++) {
        const method = n % 2 === 0 ? 'HEAD' : 'POST';
        await transport.send({ method, url: url('/a'), signal: never() }).catch((error) => errors.push(error));
      }
      if (when === 'at once') expect(errors).toEqual([]);
      else for (const error of errors) expect(error).toMatchObject({ kind: 'protocol', temporary: true });
    },
  );

  it('that the server closes just as they are used again are a temporary error', async () => {
    // Answers the first request, and closes at the first byte of the second.
    const host = await serveRaw((socket) => {
      let requests = 0;
      socket.on('data', () => {
        if (++requests === 1) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n');
        else socket.destroy();
      });
    });
    for (const body of [undefined, Buffer.alloc(10), bodyOf(5_000_000)]) {
      const { transport, url } = connect(host);
      // With a body something else is asked first.
      if (body === undefined) await transport.send({ method: 'GET', url: url('/a'), signal: never() });
      const error = await caught(transport.send({ method: 'PATCH', url: url('/a'), body, signal: never() }));
      expect(error).toMatchObject({ kind: 'reset', temporary: true });
    }
  });

  it('that break in an answer are a temporary error', async () => {
    const server = await serve((_, response) => {
      response.writeHead(200, { 'content-length': 10 }).write('12345');
      setTimeout(() => response.destroy(), 20);
    });
    const { transport, url } = connect(server.host);
    const response = await transport.send({ method: 'GET', url: url('/a'), signal: never() });
    expect(await caught(response.text())).toMatchObject({ kind: 'reset', temporary: true });
    const cut = await transport.send({ method: 'GET', url: url('/a'), signal: never() });
    expect(await errorOf(cut, { method: 'GET' })).toMatchObject({ status: 200, body: '12345' });
  });

  it('that are refused, hosts that are unknown, and answers that are no HTTP each have their kind', async () => {
    const kindOf = async (host: string) => {
      const { transport, url } = connect(host);
      const { kind, temporary } = await caught(transport.send({ method: 'GET', url: url('/a'), signal: never() }));
      return `${kind} ${temporary}`;
    };
    const nonsense = await serveRaw((socket) => socket.on('data', () => socket.end('SSH-2.0-OpenSSH\r\n')));
    expect(await kindOf('127.0.0.1:1')).toBe('refused true');
    expect(await kindOf('registry.invalid')).toMatch(/^dns (true|false)$/);
    expect(await kindOf(nonsense)).toBe('protocol true');
  });

  it('end with the transport', async () => {
    const server = await serve(() => {});
    const { transport, url } = connect(server.host);
    const waiting = caught(transport.send({ method: 'GET', url: url('/a'), signal: never() }));
    await expect.poll(() => server.heads.length).toBe(1);
    await transport.close();
    expect(await waiting).toMatchObject({ kind: 'cancelled' });
  });
});

describe('the scheme', () => {
  it('is HTTPS for a loopback host that answers in TLS, also for URLs made before that was known', async () => {
    const { transport, url } = connect(await https(), { ca: CA });
    const early = url('/v2/a');
    expect(early.protocol).toBe('http:');
    const response = await transport.send({ method: 'GET', url: early, signal: never() });
    expect(response.status).toBe(200);
    expect(response.url.protocol).toBe('https:');
    expect(transport.origin.protocol).toBe('https:');
  });

  it('stays HTTP when a connection only breaks', async () => {
    let connections = 0;
    const host = await serveRaw((socket) => {
      if (++connections === 1) return void socket.destroy();
      socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'));
    });
    const { transport, url } = connect(host);
    const send = () => transport.send({ method: 'GET', url: url('/v2/a'), signal: never() });
    expect(await caught(send())).toMatchObject({ kind: 'reset', temporary: true });
    expect((await send()).url.protocol).toBe('http:');
  });

  it('is plain HTTP for insecure, HTTPS for all others', () => {
    const origin = (host: string, insecure = false) => connect(host, { insecure }).transport.origin.href;
    expect(origin('registry.test:5000')).toBe('https://registry.test:5000/');
    expect(origin('registry.test:5000', true)).toBe('http://registry.test:5000/');
    expect(origin('docker.io')).toBe('https://registry-1.docker.io/');
    expect(origin('localhost:5000')).toBe('http://localhost:5000/');
    expect(origin('[::1]:5000')).toBe('http://[::1]:5000/');
  });

  it('with a certificate that nobody trusts is an error that names the remedy', async () => {
    const { transport, url } = connect(await https());
    const error = await caught(transport.send({ method: 'GET', url: url('/v2/a'), signal: never() }));
    expect(error).toMatchObject({ kind: 'tls', temporary: false });
    expect(error.remedy).toContain('ca-file');
    expect(error.message).toContain('its certificate is not trusted (UNABLE_TO_VERIFY_LEAF_SIGNATURE)');
  });
});

describe('a registry with HTTPS', () => {
  it.each([
    ['redirect', { location: 'http://registry.test/x' }],
    ['redirect', { location: 'http://127.0.0.1:1/x' }],
    ['realm', { 'www-authenticate': 'Bearer realm="http://auth.test/token"' }],
  ])('does not lead us to plain HTTP by its %s: %o', async (_, headers) => {
    const host = await https((request, response) => {
      const status = request.url === '/v2/' ? 200 : 'location' in headers ? 307 : 401;
      response.writeHead(status, headers).end();
    });
    const { transport, url } = connect(host, { ca: CA, credentials: { source: 'test', username: 'u', password: 'p' } });
    const error = await caught(transport.send({ method: 'GET', url: url('/v2/a'), signal: never() }));
    expect(error).toMatchObject({ kind: 'unsafe', temporary: false });
    expect(error.message).toContain('leaves HTTPS for plain HTTP');
    expect(error.remedy).toContain('X-Forwarded-Proto');
  });

  it('is not asked at a plain HTTP address of its own', async () => {
    const { transport, url } = connect(await https(), { ca: CA });
    await transport.send({ method: 'GET', url: url('/v2/a'), signal: never() });
    const location = new URL(`http://registry.test/v2/u`);
    const error = await caught(transport.send({ method: 'PATCH', url: location, signal: never() }));
    expect(error).toMatchObject({ kind: 'unsafe' });
  });
});

describe('redirects and other origins', () => {
  it('follows a GET to another origin without credentials and cookies', async () => {
    const storage = await serve((_, response) => void response.end('bytes'));
    const server = await serve(
      (_, response) => void response.writeHead(307, { location: `${storage.origin}/x?sig=1` }).end(),
    );
    const { transport, url } = connect(server.host, { credentials: { source: 'test', registryToken: 'secret-token' } });
    const cookies = new CookieJar();
    cookies.store(url('/a'), ['a=b; Path=/']);
    const response = await transport.send({ method: 'GET', url: url('/a'), cookies, signal: never() });
    expect(await response.text()).toBe('bytes');
    expect(response.url.href).toBe(`${storage.origin}/x?sig=1`);
    expect(server.heads[0]!.headers).toMatchObject({ authorization: 'Bearer secret-token', cookie: 'a=b' });
    expect(storage.heads[0]!.headers).not.toHaveProperty('authorization');
    expect(storage.heads[0]!.headers).not.toHaveProperty('cookie');
  });

  it('sends credentials and cookies to no other origin that a Location names', async () => {
    const other = await serve((_, response) => void response.writeHead(401, { 'www-authenticate': 'Basic' }).end());
    const server = await serve((_, response) => void response.end());
    const { transport, url } = connect(server.host, { credentials: { source: 'test', registryToken: 'secret-token' } });
    const cookies = new CookieJar();
    cookies.store(url('/'), ['a=b; Path=/']);
    const response = await transport.send({
      method: 'PATCH',
      url: new URL(`${other.origin}/x`),
      cookies,
      signal: never(),
    });
    expect(response.status).toBe(401);
    expect(other.requests()).toEqual(['PATCH /x']);
    expect(other.heads[0]!.headers).not.toHaveProperty('authorization');
    expect(other.heads[0]!.headers).not.toHaveProperty('cookie');
  });

  it.each(['POST', 'PUT', 'PATCH'])('follows 307 and 308 of %s with its body, unless told not to', async (method) => {
    const storage = await serve(async (request, response) => void response.end(String((await read(request)).length)));
    for (const [status, location] of [
      [307, '/b'],
      [308, '/b'],
      [307, `${storage.origin}/c`],
      [308, `${storage.origin}/c`],
    ] as const) {
      const server = await serve(async (request, response) => {
        if (request.url === '/a') return void response.writeHead(status, { location }).end();
        response.end(String((await read(request)).length));
      });
      const { transport, url } = connect(server.host, {
        credentials: { source: 'test', registryToken: 'secret-token' },
      });
      const request = { method, url: url('/a'), body: bodyOf(100_000), signal: never() };
      const left = await transport.send({ ...request, followRedirects: false });
      expect([left.status, left.headers.location]).toEqual([status, location]);
      expect(await (await transport.send(request)).text()).toBe('100000');
    }
    expect(storage.heads.map(({ headers }) => headers.authorization)).toEqual([undefined, undefined]);
  });

  it.each([301, 302, 303])('does not follow %i of a POST, and names its target', async (status) => {
    const location = 'https://registry.example.com/v2/a/blobs/uploads/?state=secret';
    const server = await serve((_, response) => void response.writeHead(status, { location }).end());
    const { transport, url } = connect(server.host);
    const error = await caught(transport.send({ method: 'POST', url: url('/a'), signal: never() }));
    expect(error).toMatchObject({ kind: 'protocol', temporary: false, status });
    expect(error.message).toContain('to https://registry.example.com/v2/a/blobs/uploads/?state=…');
    expect(error.remedy).toContain('push to registry.example.com instead');
  });

  it('goes round in circles five times', async () => {
    const server = await serve((_, response) => void response.writeHead(302, { location: '/a' }).end());
    const { transport, url } = connect(server.host);
    const error = await caught(transport.send({ method: 'HEAD', url: url('/a'), signal: never() }));
    expect(error.message).toContain('redirected more than 5 times');
    expect(server.heads).toHaveLength(6);
  });

  it.each(['http://169.254.169.254/latest', 'http://u:p@127.0.0.1/x', 'ftp://127.0.0.1/', 'http://[fe80::1]/'])(
    'refuses %s',
    async (location) => {
      const server = await serve((_, response) => void response.writeHead(302, { location }).end());
      const { transport, url } = connect(server.host);
      const redirect = await caught(transport.send({ method: 'GET', url: url('/a'), signal: never() }));
      expect(redirect).toMatchObject({ kind: 'unsafe', temporary: false });
      const direct = await caught(transport.send({ method: 'PATCH', url: new URL(location), signal: never() }));
      expect(direct).toMatchObject({ kind: 'unsafe', temporary: false });
      expect(direct.message).not.toContain('u:p');
    },
  );
});

describe('cookies and warnings', () => {
  it('keeps the cookies of a session', async () => {
    const server = await serve(
      (_, response) => void response.setHeader('set-cookie', ['r=1; HttpOnly', 's=2; Path=/other']).end(),
    );
    const { transport, url } = connect(server.host);
    const cookies = new CookieJar();
    for (let n = 0; n < 2; n++) await transport.send({ method: 'PATCH', url: url('/v2/u'), cookies, signal: never() });
    await transport.send({ method: 'PATCH', url: url('/v2/u'), signal: never() });
    expect(server.heads.map(({ headers }) => headers.cookie)).toEqual([undefined, 'r=1', undefined]);
  });

  it('tells each warning once', async () => {
    const server = await serve(
      (_, response) => void response.setHeader('warning', '299 - "going away", 199 - "no", 299 - "a \\"b\\""').end(),
    );
    const { transport, url, events } = connect(server.host);
    for (let n = 0; n < 2; n++) await transport.send({ method: 'GET', url: url('/a'), signal: never() });
    expect(events.filter(({ type }) => type === 'warning')).toEqual([
      { type: 'warning', text: 'going away' },
      { type: 'warning', text: 'a "b"' },
    ]);
  });
});

describe('back-off', () => {
  it('holds every request of the host back after a 429 with Retry-After', async () => {
    let first = true;
    const server = await serve((_, response) => {
      if (first) response.writeHead(429, { 'retry-after': '1' });
      first = false;
      response.end();
    });
    let now = 0;
    const waits: { readonly ms: number; readonly pass: () => void }[] = [];
    const sleep = (ms: number, signal: AbortSignal) =>
      new Promise<void>((pass, cancel) => {
        waits.push({ ms, pass });
        signal.addEventListener('abort', () => cancel(signal.reason));
      });
    const backoff = new Backoff({ clock: { now: () => now, random: () => 0, sleep } });
    const { transport, url } = connect(server.host, { backoff });
    const get = (signal: AbortSignal) => transport.send({ method: 'GET', url: url('/a'), signal });
    expect((await get(never())).status).toBe(429);
    const others = [1, 2, 3].map(() => get(never()));
    const controller = new AbortController();
    const impatient = get(controller.signal);
    await expect.poll(() => waits.map(({ ms }) => ms)).toEqual([1000, 1000, 1000, 1000]);
    controller.abort();
    expect(await caught(impatient)).toMatchObject({ kind: 'cancelled' });
    expect(server.heads).toHaveLength(1);
    now = 1000;
    for (const { pass } of waits) pass();
    await Promise.all(others);
    expect(server.heads).toHaveLength(4);
  });
});
