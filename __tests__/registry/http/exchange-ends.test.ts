/** One request from its start to its end, and the ways it ends before. */
import { getEventListeners } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer as createHttpsServer } from 'node:https';
import { connect as connectTcp, type Socket } from 'node:net';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { Connections } from '../../../src/registry/http/connections.ts';
import { Deadline, defaultTimeouts, type Timeouts } from '../../../src/registry/http/deadline.ts';
import { exchange } from '../../../src/registry/http/exchange.ts';
import { Proxies } from '../../../src/registry/http/proxies.ts';
import { certificatesIn, trustIn } from '../../../src/registry/http/trust.ts';
import { bodyOf, caught, connect, listen, never, serve, serveRaw, until, useFakeTimers } from '../helpers/loopback.ts';
import { proxyTo } from '../helpers/proxy.ts';

const fixture = (name: string): string => readFileSync(new URL(`../../fixtures/tls/${name}`, import.meta.url), 'utf8');
const CA = fixture('ca.pem');

/** Requests without a transport; a GET unless told otherwise. */
function client(env: NodeJS.ProcessEnv = {}) {
  const connections = new Connections({
    proxies: new Proxies(env),
    trust: trustIn({ ca: certificatesIn(CA) }),
    connectTimeout: 5000,
    perOrigin: 10,
    isOwn: () => true,
  });
  onTestFinished(() => connections.destroy());
  return async (
    address: string,
    signal: AbortSignal,
    { headers = {}, timeouts = {} }: { headers?: Record<string, string>; timeouts?: Partial<Timeouts> } = {},
  ) => {
    const url = new URL(address);
    const request = { method: 'GET', url, headers, timeouts: { ...defaultTimeouts(0), ...timeouts } };
    const { dispatcher, release } = await connections.take(url, new AbortController().signal);
    return exchange(dispatcher, { ...request, signals: [signal], onOver: release });
  };
}

/** An HTTPS server behind a door: connections get through when it opens. */
async function behindDoor() {
  const requests: string[] = [];
  const tls = { key: fixture('server.key'), cert: fixture('server.pem') };
  const server = createHttpsServer(tls, (request, response) => {
    requests.push(`${request.url}`);
    response.end();
  });
  const [, port] = (await listen(server)).split(':');
  const waiting: Socket[] = [];
  const host = await serveRaw((socket) => void waiting.push(socket));
  const open = () => {
    for (const socket of waiting.splice(0)) {
      const inner = connectTcp(Number(port), '127.0.0.1').on('error', () => socket.destroy());
      socket.pipe(inner).pipe(socket);
    }
  };
  return { url: `https://${host}/a`, requests, waiting, open };
}

describe('a request without a connection yet', () => {
  it('ends at once with its signal, and is never sent', async () => {
    const { url, requests, waiting, open } = await behindDoor();
    const send = client();
    const controller = new AbortController();
    const reason = new Error('SIGTERM');
    const sent = caught(send(url, controller.signal));
    await expect.poll(() => waiting.length).toBe(1);
    const closed = new Promise((resolve) => void waiting[0]!.once('close', resolve));
    controller.abort(reason);
    expect(await sent).toMatchObject({ kind: 'cancelled', cause: reason });
    open();
    await closed;
    expect(requests).toEqual([]);
    expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0);
  });

  it('ends at once with its time-out', async () => {
    const { url } = await behindDoor();
    const error = await caught(client()(url, never(), { timeouts: { connect: 80 } }));
    expect(error).toMatchObject({ kind: 'timeout', temporary: true });
    expect(error.message).toContain('no connection within 80 ms');
  });

  it('is not even made when its signal is aborted already', async () => {
    const { url, requests, waiting, open } = await behindDoor();
    const send = client();
    expect(await caught(send(url, AbortSignal.abort()))).toMatchObject({ kind: 'cancelled' });
    // The next one is the first that knocks.
    const next = send(`${url}/next`, never());
    await expect.poll(() => waiting.length).toBe(1);
    open();
    expect((await next).statusCode).toBe(200);
    expect([waiting, requests]).toEqual([[], ['/a/next']]);
  });
});

it('a request that is being sent ends with its signal, and its body is let go', async () => {
  const server = await serve((request) => void request.pause());
  const { transport, url } = connect(server.host);
  const controller = new AbortController();
  const source = bodyOf(64 * 1024 * 1024).open();
  const body = { size: 64 * 1024 * 1024, open: () => source };
  const sent = caught(transport.send({ method: 'PUT', url: url('/a'), body, signal: controller.signal }));
  await expect.poll(() => server.heads.length).toBe(1);
  controller.abort(new Error('SIGTERM'));
  expect(await sent).toMatchObject({ kind: 'cancelled' });
  expect(source.destroyed).toBe(true);
  // Whoever does not read does not hear that the connection is gone.
  server.heads[0]!.resume();
  await expect.poll(() => server.heads[0]!.destroyed).toBe(true);
});

it.each(['/unanswered', '/begun'])('an answer ends with its signal, and so does its connection: %s', async (path) => {
  const server = await serve((request, response) => {
    if (request.url !== '/unanswered') response.writeHead(200, { 'content-length': 10 }).write('12345');
  });
  const controller = new AbortController();
  const begun = Promise.withResolvers<void>();
  if (path === '/unanswered') begun.resolve();
  const read = async () => {
    const { body } = await client()(server.origin + path, controller.signal);
    await body.until(4);
    begun.resolve();
    await body.until(10);
    expect(body.first(10).toString()).toBe('12345');
    throw body.failure;
  };
  const sent = caught(read());
  await expect.poll(() => server.heads.length).toBe(1);
  await begun.promise;
  const reason = new Error('SIGTERM');
  controller.abort(reason);
  const error = await sent;
  expect(path === '/unanswered' ? error.cause : error).toBe(reason);
  await expect.poll(() => server.heads[0]!.socket.destroyed).toBe(true);
});

it('informational answers are signs of life, and not the answer', async () => {
  const server = Promise.withResolvers<Socket>();
  const host = await serveRaw((socket) => socket.once('data', () => server.resolve(socket)));
  const entered = vi.spyOn(Deadline.prototype, 'enter');
  const signs = () => entered.mock.calls.filter(([phase]) => phase === 'header').length;
  useFakeTimers();
  const answering = client()(`http://${host}/a`, never(), { timeouts: { header: 250, idle: 50 } });
  const socket = await server.promise;
  await until(() => signs() === 1);
  const interim = ['103 Early Hints\r\nLink: <a>', '102 Processing', '102 Processing', '102 Processing'];
  for (const [count, head] of interim.entries()) {
    vi.advanceTimersByTime(200);
    socket.write(`HTTP/1.1 ${head}\r\n\r\n`);
    await until(() => signs() === count + 2);
  }
  vi.advanceTimersByTime(200);
  socket.write('HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok');
  const answer = await answering;
  expect(answer.statusCode).toBe(201);
  expect(answer.headers).toEqual({ 'content-length': '2' });
  await answer.body.until(2);
  expect(answer.body.first(9).toString()).toBe('ok');
});

it('requests that undici does not take are errors, those too that it throws at once', async () => {
  const server = await serve((_, response) => void response.end());
  const proxy = await proxyTo(server.host);
  const controller = new AbortController();
  const bad = await caught(client()(server.origin, controller.signal, { headers: { 'no token': 'a' } }));
  expect(bad).toMatchObject({ kind: 'protocol', temporary: false });
  expect(bad.message).toContain('the request could not be made: invalid header key');
  const send = client({ HTTP_PROXY: proxy.url });
  const thrown = await caught(
    send('http://registry.test/', controller.signal, { headers: { 'proxy-authorization': 'Basic x' } }),
  );
  expect(thrown.message).toContain('the request could not be made: Proxy-Authorization should be sent');
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0);
});

it('no listener stays on a signal, however a request ends', async () => {
  const server = await serve((request, response) => {
    if (request.url === '/cut') return void request.socket.destroy();
    if (request.url === '/silent') return;
    response.end(request.url === '/big' ? Buffer.alloc(8 * 1024 * 1024) : 'small');
  });
  const { transport, url } = connect(server.host);
  const controller = new AbortController();
  const { signal } = controller;
  const left = () => getEventListeners(signal, 'abort').length;
  const get = (path: string, method = 'GET') => transport.send({ method, url: url(path), signal });
  const ends: readonly (() => Promise<unknown>)[] = [
    async () => (await get('/')).text(),
    async () => get('/', 'HEAD'),
    async () => (await get('/big')).discard(),
    async () => (await get('/big')).bytes(8 * 1024 * 1024),
    () => caught(get('/cut')),
    () => caught(transport.send({ method: 'GET', url: url('/silent'), signal, timeouts: { header: 50 } })),
  ];
  for (const end of ends) {
    await end();
    expect(left()).toBe(0);
  }
  const cancelled = caught(get('/silent'));
  await expect.poll(() => server.heads.length).toBe(ends.length + 1);
  expect(left()).toBe(1);
  controller.abort();
  await cancelled;
  expect(left()).toBe(0);
});
