import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { bodyOf } from './body.ts';

/** Sends so many bytes of a body that promises more, then ends; gives what a slow reader got of them. */
async function receive(bytes: number, promised: number, delay: number): Promise<{ got: number; broken: boolean }> {
  const taken = Promise.withResolvers<IncomingMessage>();
  const server = createServer((request) => taken.resolve(request));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  socket.write(`PATCH / HTTP/1.1\r\nHost: x\r\nContent-Length: ${promised}\r\n\r\n`);
  socket.end(randomBytes(bytes));
  const count = { bytes: 0, broken: false };
  let got = 0;
  try {
    for await (const piece of bodyOf(await taken.promise, count)) {
      got += piece.length;
      await sleep(delay);
    }
  } catch (cause) {
    expect(String(cause)).toContain('broke');
  }
  socket.destroy();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  expect(count.bytes).toBe(got);
  return { got, broken: count.broken };
}

it.each([0, 1, 65_536, 3_000_000])('gives all %i bytes that came before the connection broke', async (bytes) => {
  expect(await receive(bytes, bytes + 1000, 5)).toEqual({ got: bytes, broken: true });
});

it('gives a whole body', async () => {
  expect(await receive(200_000, 200_000, 0)).toEqual({ got: 200_000, broken: false });
});
