import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { Deadline } from '../../../src/registry/http/deadline.ts';
import {
  bodyOf,
  caught,
  connect,
  listen,
  never,
  read,
  serve,
  serveRaw,
  until,
  useFakeTimers,
} from '../helpers/loopback.ts';

const fixture = (name: string): string => readFileSync(new URL(`../../fixtures/tls/${name}`, import.meta.url), 'utf8');
const CA = fixture('ca.pem');
const TLS = { key: fixture('server.key'), cert: fixture('server.pem') };

describe('bodies', () => {
  it('go with Content-Length, never chunked, and are opened anew for each try', async () => {
    const got: string[] = [];
    const server = await serve(async (request, response) => {
      const { 'content-length': length, 'transfer-encoding': encoding } = request.headers;
      got.push(`${request.method} ${length} ${encoding} ${(await read(request)).length}`);
      response.end();
    });
    const { transport, url } = connect(server.host);
    const body = bodyOf(300_000);
    await transport.send({ method: 'PATCH', url: url('/a'), body, signal: never() });
    await transport.send({ method: 'PATCH', url: url('/a'), body, signal: never() });
    await transport.send({ method: 'PUT', url: url('/a'), body: Buffer.from('hello').subarray(1), signal: never() });
    await transport.send({ method: 'POST', url: url('/a'), signal: never() });
    await transport.send({ method: 'PUT', url: url('/a'), body: bodyOf(0), signal: never() });
    await transport.send({ method: 'DELETE', url: url('/a'), signal: never() });
    expect(got).toEqual([
      'PATCH 300000 undefined 300000',
      'PATCH 300000 undefined 300000',
      'PUT 4 undefined 4',
      'POST 0 undefined 0',
      'PUT 0 undefined 0',
      'DELETE undefined undefined 0',
    ]);
  });

  it('hold their source back: what a server does not read is not read from the file', async () => {
    const gate = Promise.withResolvers<void>();
    const server = await serve(async (request, response) => {
      await gate.promise;
      await read(request);
      response.end();
    });
    const { transport, url } = connect(server.host);
    let given = 0;
    const total = 64 * 1024 * 1024;
    const body = {
      size: total,
      open: () =>
        bodyOf(total)
          .open()
          .on('data', (piece: Buffer) => (given += piece.length)),
    };
    const sent = transport.send({ method: 'PATCH', url: url('/a'), body, signal: never() });
    await expect.poll(() => server.heads.length).toBe(1);
    // As much goes to a server that reads meanwhile.
    const reading = await serve(async (request, response) => void (await read(request).then(() => response.end())));
    const other = connect(reading.host);
    await other.transport.send({ method: 'PATCH', url: other.url('/a'), body: bodyOf(total), signal: never() });
    expect(given).toBeLessThan(24 * 1024 * 1024);
    gate.resolve();
    expect((await sent).status).toBe(200);
    expect(given).toBe(total);
  });

  it.each(['http', 'https'])(
    'are given back piece by piece, each when the connection has taken all of it: %s',
    async (protocol) => {
      const pieces = Array.from({ length: 40 }, (_, at) => Buffer.alloc(256 * 1024, at + 1));
      const wanted = createHash('sha256').update(Buffer.concat(pieces)).digest('hex');
      const got = createHash('sha256');
      const taking: RequestListener = async (request, response) => {
        for await (const piece of request) {
          got.update(piece);
          await sleep(1);
        }
        response.end();
      };
      const server = protocol === 'http' ? createServer(taking) : createHttpsServer(TLS, taking);
      const { transport, url } = connect(await listen(server), { ca: CA });
      let given = 0;
      // Whoever overwrites a piece that is still to be sent is found out.
      const recycle = (piece: Buffer) => {
        given += 1;
        piece.fill(0xff);
      };
      const blocks = async function* () {
        yield* pieces;
      };
      const open = () => Object.assign(Readable.from(blocks(), { objectMode: false, highWaterMark: 1 }), { recycle });
      await transport.send({ method: 'PATCH', url: url('/a'), body: { size: 40 * 256 * 1024, open }, signal: never() });
      expect(got.digest('hex')).toBe(wanted);
      expect(given).toBe(40);
    },
  );

  it("that can not be read are not the network's fault", async () => {
    const server = await serve(
      async (request, response) =>
        void (await read(request).then(
          () => response.end(),
          () => {},
        )),
    );
    const { transport, url } = connect(server.host);
    const failing = new Readable({ read: () => void setTimeout(() => failing.destroy(new Error('disk on fire')), 10) });
    const error = await caught(
      transport.send({ method: 'PUT', url: url('/a'), body: { size: 10, open: () => failing }, signal: never() }),
    );
    expect(error).toMatchObject({ kind: 'body', temporary: false });
    expect(error.message).toContain('disk on fire');
    const open = (): Readable => {
      throw new Error('no such file');
    };
    const unopened = await caught(
      transport.send({ method: 'PUT', url: url('/a'), body: { size: 10, open }, signal: never() }),
    );
    expect(unopened).toMatchObject({ kind: 'body', message: expect.stringContaining('no such file') });
    // An error's headers are an answer's; those of the request hold the credentials.
    expect([error.headers, unopened.headers]).toEqual([{}, {}]);
  });

  it.each([5, 15])('of another length than was said (%i of 10 bytes) are an error', async (length) => {
    const server = await serve(
      async (request, response) =>
        void (await read(request).then(
          () => response.end(),
          () => {},
        )),
    );
    const { transport, url } = connect(server.host);
    const body = { size: 10, open: () => Readable.from([Buffer.alloc(length)], { objectMode: false }) };
    expect(await caught(transport.send({ method: 'PUT', url: url('/a'), body, signal: never() }))).toMatchObject({
      kind: 'body',
      temporary: false,
    });
  });

  it('are let go when the connection breaks', async () => {
    const host = await serveRaw((socket) =>
      socket.on('data', (piece) => {
        if (piece.toString().startsWith('GET')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
        else socket.destroy();
      }),
    );
    const { transport, url } = connect(host);
    const source = bodyOf(30_000_000).open();
    const error = await caught(
      transport.send({
        method: 'PUT',
        url: url('/a'),
        body: { size: 30_000_000, open: () => source },
        signal: never(),
      }),
    );
    expect(error).toMatchObject({ kind: 'reset', temporary: true });
    await expect.poll(() => source.destroyed).toBe(true);
  });
});

describe('time-outs', () => {
  const quick = { connect: 5000, send: 5000, header: 5000, idle: 5000, total: 5000 };

  it('end a request that gets no answer', async () => {
    const server = await serve(() => {});
    const { transport, url } = connect(server.host);
    const error = await caught(
      transport.send({ method: 'GET', url: url('/a'), timeouts: { ...quick, header: 80 }, signal: never() }),
    );
    expect(error).toMatchObject({ kind: 'timeout', temporary: true });
    expect(error.message).toContain('no answer within 80 ms');
  });

  it('end a request whose body nobody takes', async () => {
    const { host } = await serve((request) => void request.pause());
    const { transport, url } = connect(host);
    const request = { method: 'PUT', url: url('/a'), body: bodyOf(20_000_000), signal: never() };
    const error = await caught(transport.send({ ...request, timeouts: { ...quick, send: 200 } }));
    expect(error.message).toContain('the connection took no more bytes within 200 ms');
  });

  it('do not end a request whose body is taken slowly', async () => {
    const slow = await serve((request) => void request.pause());
    const { transport, url } = connect(slow.host);
    const entered = vi.spyOn(Deadline.prototype, 'enter');
    const bytesTaken = () => entered.mock.calls.filter(([phase]) => phase === 'send').length;
    useFakeTimers();
    const request = { method: 'PUT', url: url('/a'), body: bodyOf(64_000_000), signal: never() };
    const sent = transport.send({ ...request, timeouts: { ...quick, send: 1500, total: 60_000 } });
    const closed = caught(sent);
    await until(() => slow.heads.length === 1);
    const [head] = slow.heads;
    // Each time some bytes are taken, nearly the longest time after those before.
    for (let time = 0; time < 4; time++) {
      vi.advanceTimersByTime(1400);
      const before = bytesTaken();
      head!.resume();
      await until(() => bytesTaken() > before);
      head!.pause();
    }
    vi.advanceTimersByTime(1500);
    // It is the same clock that ends it.
    expect((await closed).message).toContain('the connection took no more bytes within 2 s');
  });

  it('end an answer that stops in the middle, while it is read', async () => {
    const server = await serve((_, response) => void response.writeHead(200, { 'content-length': 10 }).write('12345'));
    const { transport, url } = connect(server.host);
    const response = await transport.send({
      method: 'GET',
      url: url('/a'),
      timeouts: { ...quick, idle: 80 },
      signal: never(),
    });
    const error = await caught(response.text());
    expect(error).toMatchObject({ kind: 'timeout', temporary: true });
    expect(error.message).toContain('the answer stopped in the middle');
  });

  it('end a request that goes on for ever', async () => {
    const server = await serve((_, response) => {
      const timer = setInterval(() => response.write('.'), 10);
      response.on('close', () => clearInterval(timer));
    });
    const { transport, url } = connect(server.host);
    const response = await transport.send({
      method: 'GET',
      url: url('/a'),
      timeouts: { ...quick, total: 150 },
      signal: never(),
    });
    expect((await caught(response.text())).message).toContain('the request was not through within 150 ms');
  });

  it("leave a signal's own reason alone, before and after the head of the answer", async () => {
    const server = await serve((request, response) => {
      if (request.url === '/b') response.writeHead(200, { 'content-length': 10 }).write('12345');
    });
    const { transport, url } = connect(server.host);
    const reason = new Error('SIGTERM');
    const controller = new AbortController();
    await transport.send({ method: 'GET', url: url('/v2/'), signal: controller.signal });
    const waiting = caught(transport.send({ method: 'GET', url: url('/a'), signal: controller.signal }));
    const response = await transport.send({ method: 'GET', url: url('/b'), signal: controller.signal });
    const reading = caught(response.text());
    controller.abort(reason);
    for (const error of await Promise.all([waiting, reading])) {
      expect(error).toMatchObject({ kind: 'cancelled', temporary: false, cause: reason });
    }
    expect(await caught(transport.send({ method: 'GET', url: url('/a'), signal: controller.signal }))).toMatchObject({
      kind: 'cancelled',
    });
  });
});
