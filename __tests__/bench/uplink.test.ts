import { Agent, createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startUplink, type Uplink } from '../../scripts/bench/uplink.ts';

/** Bytes a second: slow enough that what else the machine does hardly matters. */
const RATE = 4_000_000;
const TRIP = 100;

let server: Server;
let target: string;

/** A server that answers a body with its length. */
beforeAll(async () => {
  server = createServer(async (asked, answer) => {
    let bytes = 0;
    try {
      for await (const piece of asked as AsyncIterable<Buffer>) bytes += piece.length;
      answer.end(String(bytes));
    } catch {
      // The link was closed.
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  target = `127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => server.close());

/** Sends a body; gives what the server counted, and the seconds. */
const send = (link: Uplink, agent: Agent, bytes: number): Promise<{ counted: number; seconds: number }> =>
  new Promise((resolve, reject) => {
    const started = performance.now();
    const asked = request(`http://${link.host}/`, { method: 'PUT', agent }, async (answer) => {
      let text = '';
      for await (const piece of answer as AsyncIterable<Buffer>) text += piece.toString();
      resolve({ counted: Number(text), seconds: (performance.now() - started) / 1000 });
    });
    asked.once('error', reject).end(Buffer.alloc(bytes));
  });

async function over<T>(
  roundTripMs: number,
  use: (link: Uplink, agent: Agent, connections: () => number) => Promise<T>,
): Promise<T> {
  let connections = 0;
  const onConnect = () => {
    connections += 1;
  };
  const link = await startUplink({ target, bytesPerSecond: RATE, roundTripMs, onConnect });
  const agent = new Agent({ keepAlive: true });
  try {
    return await use(link, agent, () => connections);
  } finally {
    agent.destroy();
    await link.close();
  }
}

describe('the uplink of the benchmark', () => {
  it('carries so many bytes a second, over all connections together', async () => {
    const bytes = 500_000;
    await over(0, async (link, agent) => {
      const started = performance.now();
      const sent = await Promise.all(Array.from({ length: 4 }, () => send(link, agent, bytes)));
      const seconds = (performance.now() - started) / 1000;
      expect(sent.map(({ counted }) => counted)).toEqual([bytes, bytes, bytes, bytes]);
      // It may take longer on a busy machine, but never less.
      expect(seconds).toBeGreaterThan((4 * bytes) / RATE);
      expect(link.carried.bytes).toBeGreaterThan(4 * bytes);
      expect(link.carried.busyMs / 1000).toBeCloseTo((4 * bytes) / RATE, 1);
    });
  });

  it('takes a round trip for an answer, and one more for a connection', async () => {
    await over(TRIP, async (link, agent, connections) => {
      const first = await send(link, agent, 0);
      expect(connections()).toBe(1);
      const second = await send(link, agent, 0);
      expect(first.seconds).toBeGreaterThan((2 * TRIP - 5) / 1000);
      expect(second.seconds).toBeGreaterThan((TRIP - 5) / 1000);
      expect(connections()).toBe(1);
    });
  });

  it('starts slowly: a window of ten segments doubles with every round trip', async () => {
    await over(TRIP, async (link, agent) => {
      await send(link, agent, 0);
      // 14,480 + 28,960 + 57,920 bytes are three round trips; what is more needs a fourth.
      const { seconds } = await send(link, agent, 120_000);
      expect(seconds).toBeGreaterThan((4 * TRIP - 20) / 1000);
    });
  });

  it('ends both sides with either one', async () => {
    const link = await startUplink({ target, bytesPerSecond: RATE, roundTripMs: 0 });
    const agent = new Agent({ keepAlive: true });
    const sending = expect(send(link, agent, 50_000_000)).rejects.toThrow();
    await expect.poll(() => link.carried.bytes).toBeGreaterThan(0);
    await link.close();
    await sending;
    agent.destroy();
  });
});
