/** Bodies of answers: held back until somebody reads, read to their end or in part, and let go. */
import type { Socket } from 'node:net';
import { expect, it } from 'vitest';
import { caught, connect, never, serve, serveRaw, turns } from '../helpers/loopback.ts';

const MIB = 1024 * 1024;

/** A server whose answer to `/big` is `size` bytes; counts the bytes that it could send of them, and its connections. */
async function bigServer(size: number) {
  const state = { sent: 0, connections: new Set<Socket>() };
  const server = await serve(async (request, response) => {
    state.connections.add(request.socket);
    if (request.url !== '/big') return void response.end('small');
    response.writeHead(200, { 'content-length': size });
    for (const piece = Buffer.alloc(MIB, 7); state.sent < size && !response.destroyed; state.sent += MIB) {
      await new Promise((taken) => void response.write(piece, taken));
    }
    response.end();
  });
  const { transport, url } = connect(server.host);
  const get = (path: string) => transport.send({ method: 'GET', url: url(path), signal: never() });
  return { state, get };
}

it('is held back while nobody reads it, and then comes whole', async () => {
  const { state, get } = await bigServer(64 * MIB);
  const response = await get('/big');
  // Another answer of that length, asked for later, comes to its end meanwhile: so would this one, if nothing held it back.
  const other = await bigServer(64 * MIB);
  await (await other.get('/big')).bytes(64 * MIB);
  expect(state.sent).toBeLessThan(24 * MIB);
  const bytes = await response.bytes(64 * MIB);
  expect(bytes.equals(Buffer.alloc(64 * MIB, 7))).toBe(true);
  expect(await (await get('/small')).text()).toBe('small');
  expect(state.connections.size).toBe(1);
});

it('comes whole when the server closed while it was held back', async () => {
  const closed = Promise.withResolvers<void>();
  const host = await serveRaw((socket) =>
    socket.on('data', (head) =>
      `${head}`.startsWith('GET /v2/')
        ? socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
        : socket.end(`HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n${'7'.repeat(200_000)}`, closed.resolve),
    ),
  );
  const { transport, url } = connect(host);
  const response = await transport.send({ method: 'GET', url: url('/a'), signal: never() });
  await closed.promise;
  expect(await response.text()).toBe('7'.repeat(200_000));
});

it('ends with its connection when more of it is to come than is worth reading', async () => {
  const { state, get } = await bigServer(64 * MIB);
  const response = await get('/big');
  await response.discard();
  expect(state.sent).toBeLessThan(24 * MIB);
  await expect.poll(() => [...state.connections][0]?.destroyed).toBe(true);
  expect(await (await get('/small')).text()).toBe('small');
  expect(state.connections.size).toBe(2);
  // The part of it that came is not taken for the whole.
  expect(await caught(response.text(64 * MIB))).toMatchObject({ name: 'RegistryError', temporary: false });
  expect(await response.excerpt(3)).toBe('\x07\x07\x07');
});

it('that is longer than it may be is an error, and ends with its connection', async () => {
  const { state, get } = await bigServer(64 * MIB);
  const error = await caught((await get('/big')).bytes(MIB));
  expect(error).toMatchObject({ kind: 'protocol', temporary: false });
  expect(error.message).toContain('the answer is longer than 1048576 bytes');
  expect(state.sent).toBeLessThan(24 * MIB);
  await expect.poll(() => [...state.connections][0]?.destroyed).toBe(true);
});

it.each([64 * 1024 - 1, 64 * 1024])('of %i bytes may be as long as its limit', async (size) => {
  const server = await serve((_, response) => void response.end(Buffer.alloc(size, 'x')));
  const { transport, url } = connect(server.host);
  const get = () => transport.send({ method: 'GET', url: url('/a'), signal: never() });
  expect(await (await get()).bytes(size)).toHaveLength(size);
  expect((await caught((await get()).bytes(size - 1))).kind).toBe('protocol');
});

it('keeps its connection when it is small, also when it comes later than its head', async () => {
  const sockets = new Set<Socket>();
  const server = await serve(async (request, response) => {
    sockets.add(request.socket);
    response.writeHead(200).write('a');
    await turns();
    response.end(Buffer.alloc(60_000));
  });
  const { transport, url } = connect(server.host);
  for (let n = 0; n < 3; n++) {
    await (await transport.send({ method: 'GET', url: url('/a'), signal: never() })).discard();
  }
  expect(sockets.size).toBe(1);
});

it('can be read again, and by two at once', async () => {
  const server = await serve(async (_, response) => {
    response.writeHead(200).write('one ');
    await turns();
    response.end('two');
  });
  const { transport, url } = connect(server.host);
  const response = await transport.send({ method: 'GET', url: url('/a'), signal: never() });
  expect(await Promise.all([response.text(), response.text(10), response.excerpt(5)])).toEqual([
    'one two',
    'one two',
    'one t',
  ]);
  await response.discard();
  expect(await response.text()).toBe('one two');
});

it('that is none is there with its head', async () => {
  const server = await serve((_, response) => void response.writeHead(404, { 'content-length': 100 }).end());
  const { transport, url } = connect(server.host);
  const response = await transport.send({ method: 'HEAD', url: url('/a'), signal: never() });
  let turns = 0;
  const turn = setImmediate(() => (turns += 1));
  expect(await response.text()).toBe('');
  await response.discard();
  expect(turns).toBe(0);
  clearImmediate(turn);
});
