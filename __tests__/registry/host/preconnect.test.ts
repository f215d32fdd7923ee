import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { describe, expect, it, vi } from 'vitest';
import {
  connect,
  listen,
  never,
  serve,
  serveRaw,
  timeByHand,
  turns,
  until,
  useFakeTimers,
} from '../helpers/loopback.ts';
import { inRounds } from '../helpers/rounds.ts';
import { tokenRegistry } from '../helpers/token-registry.ts';

const fixture = (name: string): string => readFileSync(new URL(`../../fixtures/tls/${name}`, import.meta.url), 'utf8');

/** An HTTPS server that answers 200 to everything; counts its TLS connections. */
async function https(): Promise<{ host: string; handshakes: number }> {
  const tls = { key: fixture('server.key'), cert: fixture('server.pem') };
  const server = createHttpsServer(tls, (_, response) => void response.end());
  const served = { host: await listen(server), handshakes: 0 };
  server.on('secureConnection', () => {
    served.handshakes += 1;
  });
  return served;
}

const SCOPES = ['repository:team/app:pull,push', 'repository:team/base:pull'];

const USER = { source: 'the inputs', username: 'bob', password: 'hunter22' };

/** Requests of one push at once, in the repository of the tag and the one that is mounted from. */
const all = ({ transport, url }: ReturnType<typeof connect>, count: number) =>
  Promise.all(
    Array.from({ length: count }, async (_, n) => {
      const scopes = n % 2 === 0 ? SCOPES.slice(0, 1) : SCOPES;
      const response = await transport.send({ method: 'HEAD', url: url(`/v2/${n}`), scopes, signal: never() });
      await response.discard();
      return response.status;
    }),
  );

describe('round trips', () => {
  it('of a first request over an open connection: one, without a ping', async () => {
    const server = await serve((_, response) => void response.end(), { ping: true });
    const rounds = await inRounds(server.host);
    const connected = connect(rounds.host, { insecure: true, concurrency: 3 });
    connected.transport.connect(SCOPES);
    await expect.poll(() => rounds.count).toBe(1);
    expect(await all(connected, 4)).toEqual([200, 200, 200, 200]);
    expect(server.requests()).not.toContain('GET /v2/');
    expect(rounds).toMatchObject({ connections: 4, count: 2 });
  });

  it('of TLS handshakes are paid once, for all connections together', async () => {
    const server = await https();
    const rounds = await inRounds(server.host);
    const connected = connect(rounds.host, { ca: fixture('ca.pem'), concurrency: 5 });
    // The scheme of a loopback host is asked for by a request of its own.
    await all(connected, 1);
    connected.transport.connect(SCOPES);
    await expect.poll(() => server.handshakes).toBeGreaterThanOrEqual(5);
    await rounds.idle();
    const before = rounds.count;
    expect(await all(connected, 5)).toEqual(Array(5).fill(200));
    expect(rounds.count - before).toBe(1);
  });

  it('of a loopback host that certificates were named for: TLS handshakes tell the scheme, and all requests go at once', async () => {
    const rounds = await inRounds((await https()).host);
    const connected = connect(rounds.host, { ca: fixture('ca.pem'), concurrency: 5 });
    connected.transport.connect(SCOPES);
    // TCP and TLS, and one round for the requests; no request is tried in plain HTTP.
    expect(await all(connected, 5)).toEqual(Array(5).fill(200));
    expect(rounds).toMatchObject({ count: 3, connections: 6 });
  });

  it('of a loopback host that certificates were named for and that speaks plain HTTP: it is asked for', async () => {
    const server = await serve((_, response) => void response.end());
    const connected = connect(server.host, { ca: fixture('ca.pem'), concurrency: 5 });
    connected.transport.connect(SCOPES);
    expect(await all(connected, 5)).toEqual(Array(5).fill(200));
    expect(connected.transport.origin.protocol).toBe('http:');
  });

  it.each([
    ['on the same host', 5],
    ['with five times as many requests', 25],
  ])('with a token server %s: a refusal, a token, and then all requests at once', async (_, count) => {
    const registry = await tokenRegistry();
    const rounds = await inRounds(registry.host);
    const connected = connect(rounds.host, { insecure: true, concurrency: 5, credentials: USER });
    connected.transport.connect(SCOPES);
    await expect.poll(() => rounds.count).toBe(1);
    expect(await all(connected, count)).toEqual(Array(count).fill(200));
    expect(registry.asked).toHaveLength(1);
    expect(registry.asked[0]!.query.getAll('scope')).toEqual(SCOPES);
    expect(registry.refusals).toBe(1);
    // One to open, one for each of the two, and the requests over at most six connections.
    expect(rounds.count).toBeLessThanOrEqual(3 + Math.ceil(count / 6));
    expect(rounds.connections).toBeLessThanOrEqual(6);
  });
});

describe('connections', () => {
  it('are never more than one beside the concurrency, however many requests there are', async () => {
    let now = 0;
    let most = 0;
    const server = await serve((request, response) => {
      most = Math.max(most, ++now);
      request.resume();
      setTimeout(() => {
        now -= 1;
        response.end();
      }, 5);
    });
    const connected = connect(server.host, { insecure: true, concurrency: 3 });
    connected.transport.connect([]);
    expect(new Set(await all(connected, 60))).toEqual(new Set([200]));
    expect(most).toBeLessThanOrEqual(4);
    expect(new Set(server.heads.map(({ socket }) => socket.remotePort)).size).toBeLessThanOrEqual(4);
  });

  it('wait for a free one without running out of the time for making one', async () => {
    const waiting: ServerResponse[] = [];
    const server = await serve((_, response) => void waiting.push(response));
    const connected = connect(server.host, { insecure: true, concurrency: 1, timeouts: { connect: 200 } });
    useFakeTimers();
    const sent = all(connected, 3);
    await until(() => waiting.length === 2);
    vi.advanceTimersByTime(400);
    for (let answered = 0; answered < 3; ) {
      await until(() => waiting.length > 0);
      for (const response of waiting.splice(0)) {
        response.end();
        answered += 1;
      }
    }
    expect(await sent).toEqual([200, 200, 200]);
  });

  it.each([
    ['is closed', (socket: { end(): void }) => socket.end()],
    [
      'gets a 408 (HAProxy)',
      (socket: { end(text: string): void }) => socket.end('HTTP/1.1 408 Request Time-out\r\n\r\n'),
    ],
    ['is reset', (socket: { resetAndDestroy(): void }) => socket.resetAndDestroy()],
  ] as const)('that %s before it is used is no failure', async (_, end) => {
    let [opened, closed] = [0, 0];
    const host = await serveRaw((socket) => {
      const isEarly = ++opened <= 4;
      socket.on('close', () => {
        closed += 1;
      });
      if (isEarly) return void (end as (on: typeof socket) => void)(socket.resume());
      socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'));
    });
    const connected = connect(host, { insecure: true, concurrency: 3 });
    connected.transport.connect([]);
    await expect.poll(() => [opened, closed]).toEqual([4, 4]);
    await turns();
    expect(await all(connected, 3)).toEqual([200, 200, 200]);
  });

  it('that can not be opened are reported by the first request, once', async () => {
    const connected = connect('127.0.0.1:1', { insecure: true });
    connected.transport.connect([]);
    await expect(all(connected, 1)).rejects.toMatchObject({ kind: 'refused', temporary: true });
  });

  it('are closed with the transport, also those that no request has used', async () => {
    let open = 0;
    const host = await serveRaw((socket) => {
      open += 1;
      socket.resume().on('close', () => {
        open -= 1;
      });
    });
    const connected = connect(host, { insecure: true, concurrency: 4 });
    connected.transport.connect([]);
    await expect.poll(() => open).toBe(5);
    await connected.transport.close();
    await expect.poll(() => open).toBe(0);
  });
});

describe('one token', () => {
  it('of a life of 2 seconds is renewed for all requests together', async () => {
    const pass = timeByHand();
    const registry = await tokenRegistry({ lifetime: 2 });
    const connected = connect(registry.host, { insecure: true, credentials: USER });
    connected.transport.connect(SCOPES);
    expect(new Set(await all(connected, 10))).toEqual(new Set([200]));
    pass(1700);
    expect(new Set(await all(connected, 10))).toEqual(new Set([200]));
    expect(registry.asked).toHaveLength(2);
    expect(registry.refusals).toBe(1);
  });

  it('is one for each request where the token server refuses all scopes together', async () => {
    const registry = await tokenRegistry({
      token: (request, response) => {
        const scopes = new URL(request.url!, 'http://x').searchParams.getAll('scope');
        if (scopes.length < 2) return false;
        response.writeHead(403).end('{"errors":[{"code":"DENIED","message":"access to team/base is denied"}]}');
        return true;
      },
    });
    const { transport, url } = connect(registry.host, { insecure: true, credentials: USER });
    transport.connect(SCOPES);
    const request = { method: 'HEAD', scopes: SCOPES.slice(0, 1), signal: never() };
    for (let n = 0; n < 3; n++) expect((await transport.send({ ...request, url: url(`/v2/${n}`) })).status).toBe(200);
    expect(registry.asked.map(({ query }) => query.getAll('scope').length)).toEqual([2, 1]);
  });

  it('is one for each request where the token server looks at one scope only', async () => {
    const needs = ({ url = '' }: IncomingMessage): string => (url.includes('base') ? SCOPES[1]! : SCOPES[0]!);
    const first = await tokenRegistry({ needs });
    // In front of it: of several scopes the last goes on.
    const server = await serve(
      async (request, response) => {
        const target = new URL(request.url!, first.origin);
        const scopes = target.searchParams.getAll('scope');
        if (scopes.length > 1) target.searchParams.set('scope', scopes.at(-1)!);
        const { host: _, ...headers } = request.headers;
        const answer = await fetch(target, { method: request.method!, headers: headers as Record<string, string> });
        const challenge = answer.headers
          .get('www-authenticate')
          ?.replace(first.origin, `http://${request.headers.host}`);
        response.writeHead(answer.status, challenge === undefined ? {} : { 'www-authenticate': challenge });
        response.end(Buffer.from(await answer.arrayBuffer()));
      },
      { ping: true },
    );
    const { transport, url } = connect(server.host, { insecure: true, credentials: USER });
    transport.connect(SCOPES);
    for (const [path, scope] of [
      ['/v2/app/1', SCOPES[0]!],
      ['/v2/base/1', SCOPES[1]!],
      ['/v2/app/2', SCOPES[0]!],
      ['/v2/base/2', SCOPES[1]!],
    ] as const) {
      const response = await transport.send({ method: 'HEAD', url: url(path), scopes: [scope], signal: never() });
      expect(response.status, path).toBe(200);
    }
  });
});
