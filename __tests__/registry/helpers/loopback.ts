/** Loopback servers that a test scripts request by request, and transports to them; all of them end with the test. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Socket, type Server as TcpServer } from 'node:net';
import { Readable } from 'node:stream';
import { onTestFinished, vi } from 'vitest';
import type { TransportEvent, TransportOptions } from '../../../src/registry/host/sender.ts';
import { Transport } from '../../../src/registry/host/transport.ts';
import type { RegistryError } from '../../../src/registry/http/error.ts';

export interface Loopback {
  /** `127.0.0.1:port`. */
  readonly host: string;
  readonly origin: string;
  /** The head of every request in the order they came (without the first `GET /v2/`, unless the handler gets it). */
  readonly heads: IncomingMessage[];
  /** "GET /path" of each of them. */
  requests(): string[];
}

export type Handler = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

/** A server that answers by `handler`; `GET /v2/` is answered with 200 unless `ping` says that the handler wants it. */
export async function serve(handler: Handler, { ping = false } = {}): Promise<Loopback> {
  const heads: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    if (!ping && request.url === '/v2/') return void response.end();
    heads.push(request);
    return void handler(request, response);
  });
  const host = await listen(server);
  return { host, origin: `http://${host}`, heads, requests: () => heads.map(({ method, url }) => `${method} ${url}`) };
}

/** A server that speaks bytes. */
export async function serveRaw(onConnection: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createTcpServer((socket) => {
    sockets.add(socket.on('error', () => {}));
    onConnection(socket);
  });
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
  });
  return await listen(server);
}

/** Starts any server on a free port; resolves to `127.0.0.1:port`. */
export async function listen(server: Server | TcpServer): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    if ('closeAllConnections' in server) server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export interface Connected {
  readonly transport: Transport;
  readonly events: TransportEvent[];
  /** A URL of the registry. */
  url(path: string): URL;
}

/** A transport and what it told. */
export function connect(host: string, options: Partial<TransportOptions> = {}): Connected {
  const events: TransportEvent[] = [];
  const transport = new Transport({ host, insecure: false, ...options, onEvent: (event) => events.push(event) });
  onTestFinished(() => transport.close());
  return { transport, events, url: (path) => new URL(path, transport.origin) };
}

/** Time-outs pass only when the test says so, by `vi.advanceTimersByTime`; sockets go on as ever. */
export function useFakeTimers(): void {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
  });
}

/** Stops the clocks of the client and of servers in this process for this test; returns what makes so many ms pass on both. */
export function timeByHand(): (ms: number) => void {
  vi.useFakeTimers({ toFake: ['Date', 'hrtime'] });
  onTestFinished(() => void vi.useRealTimers());
  return (ms) => void vi.advanceTimersByTime(ms);
}

/** Lets this process handle what has come to its sockets by now. */
export async function turns(count = 10): Promise<void> {
  for (let n = 0; n < count; n += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** Waits without a timer: `expect.poll` lets the time of fake timers pass. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

/** A signal that is never aborted. */
export const never = (): AbortSignal => new AbortController().signal;

/** Reads a request's body to its end. */
export const read = async (request: IncomingMessage): Promise<Buffer> => Buffer.concat(await request.toArray());

/** A body of `size` equal bytes in pieces of 64 KiB. */
export const bodyOf = (size: number): { size: number; open(): Readable } => ({
  size,
  open: () => {
    let left = size;
    const piece = Buffer.alloc(64 * 1024, 7);
    return new Readable({
      read() {
        if (left === 0) return void this.push(null);
        const next = piece.subarray(0, Math.min(left, piece.length));
        left -= next.length;
        this.push(next);
      },
    });
  },
});

/** The error that a request ends in. */
export async function caught(promise: Promise<unknown>): Promise<RegistryError> {
  try {
    await promise;
  } catch (error) {
    return error as RegistryError;
  }
  throw new Error('it did not fail');
}
