/**
 * A slow uplink on loopback: a relay of TCP connections that share a rate upwards, with a round trip. It stands for the runner's
 * end of the path, below HTTP, so that what a client does with its connections costs what it costs on a real one.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export interface UplinkOptions {
  /** `host:port` of the registry. */
  readonly target: string;
  /** Upwards, over all connections together. Answers are small: downwards there is no limit. */
  readonly bytesPerSecond: number;
  /** Half of it each way; connecting takes one. 0 for none. */
  readonly roundTripMs: number;
  /** False: connections carry any number of bytes at once, as warm ones do. Default: true. */
  readonly slowStart?: boolean;
  /** Told of each round trip that a new connection costs. */
  readonly onConnect?: () => void;
}

export interface Uplink {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  /** Bytes that went up, and ms in which the link carried them; the rest of the time it was idle. */
  readonly carried: { bytes: number; busyMs: number };
  close(): Promise<void>;
}

/** What Linux sends on a new connection before the first acknowledgement: ten segments of an Ethernet. RFC 6928. */
const INITIAL_WINDOW_BYTES = 10 * 1448;

/** The largest send buffer that Linux gives a connection by itself (net.ipv4.tcp_wmem). */
const LARGEST_WINDOW_BYTES = 4 * 2 ** 20;

/** A connection that was idle for longer starts anew: the least retransmission time-out of Linux. RFC 5681, section 4.1. */
const IDLE_MS = 200;

/** What is read from a socket at once; less means that no more was waiting. */
const READ_BYTES = 64 * 1024;

/** Starts a link on 127.0.0.1. The caller closes it. */
export async function startUplink(options: UplinkOptions): Promise<Uplink> {
  const [hostname = '', port] = options.target.split(':');
  const rate = new Rate(options.bytesPerSecond);
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    const registry = connect({ host: hostname, port: Number(port), allowHalfOpen: true, noDelay: true });
    for (const socket of [client, registry]) {
      sockets.add(socket);
      socket.on('error', () => {}).once('close', () => sockets.delete(socket));
    }
    options.onConnect?.();
    void carry(client, registry, rate, options).finally(() => [client, registry].map((s) => s.destroy()));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = async () => {
    const closed = once(server, 'close');
    server.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, carried: rate.carried, close };
}

/** Resolves when both ways have ended, or either side has gone. */
async function carry(
  client: Socket,
  registry: Socket,
  rate: Rate,
  { roundTripMs, slowStart = true }: UplinkOptions,
): Promise<void> {
  if (roundTripMs > 0) await sleep(roundTripMs);
  const gone = Promise.race([once(client, 'close'), once(registry, 'close')]);
  const up = upwards(client, new Path(registry, roundTripMs / 2), rate, new Window(roundTripMs, slowStart));
  const down = downwards(registry, new Path(client, roundTripMs / 2));
  await Promise.race([gone, Promise.all([up, down])]).catch(() => {});
}

async function upwards(client: Socket, path: Path, rate: Rate, window: Window): Promise<void> {
  let moreSince: number | undefined;
  for await (const read of client as AsyncIterable<Buffer>) {
    const readAt = performance.now();
    const since = moreSince ?? readAt;
    for (let at = 0; at < read.length; ) {
      const opened = await window.room();
      const piece = read.subarray(at, at + window.free);
      at += piece.length;
      const leaves = rate.take(piece.length, Math.max(since, opened));
      window.sent(piece.length, path.send(piece, leaves));
      if (leaves > performance.now() + FINEST_WAIT_MS) await sleep(leaves - performance.now());
    }
    moreSince = read.length < READ_BYTES ? undefined : readAt;
  }
  path.end();
}

async function downwards(registry: Socket, path: Path): Promise<void> {
  for await (const read of registry as AsyncIterable<Buffer>) path.send(read, performance.now());
  path.end();
}

/** Timers are no finer than this (ms). */
const FINEST_WAIT_MS = 2;

/** The link's sender: one byte after the other, over all connections. */
class Rate {
  readonly carried = { bytes: 0, busyMs: 0 };
  readonly #msPerByte: number;
  #freeAt = 0;

  constructor(bytesPerSecond: number) {
    this.#msPerByte = 1000 / bytesPerSecond;
  }

  /** When the last of so many bytes has left, which were waiting since then: this process may come to them late, a link does not. */
  take(bytes: number, since: number): number {
    this.#freeAt = Math.max(since, this.#freeAt) + bytes * this.#msPerByte;
    this.carried.bytes += bytes;
    this.carried.busyMs += bytes * this.#msPerByte;
    return this.#freeAt;
  }
}

/** The way to one end: what enters it comes out later, in order. */
class Path {
  readonly #to: Socket;
  readonly #ms: number;
  #last: Promise<void> = Promise.resolve();

  constructor(to: Socket, ms: number) {
    this.#to = to;
    this.#ms = ms;
  }

  /** Sends bytes that leave at a time. Resolves when the other end's system has taken them. */
  send(bytes: Buffer, leaves: number): Promise<void> {
    const arrives = leaves + this.#ms;
    this.#last = this.#last.then(() => this.#deliver(bytes, arrives));
    return this.#last;
  }

  /** Ends the other end's reading behind all that was sent. */
  end(): void {
    this.#last = this.#last.then(() => void this.#to.end());
  }

  async #deliver(bytes: Buffer, arrives: number): Promise<void> {
    const wait = arrives - performance.now();
    if (wait > FINEST_WAIT_MS) await sleep(wait);
    if (!this.#to.destroyed) await new Promise((resolve) => this.#to.write(bytes, resolve));
  }
}

/** TCP's congestion window: slow start, no losses. What is on its way fits into it; each acknowledgement makes it larger. */
class Window {
  readonly #roundTripMs: number;
  readonly #first: number;
  #size: number;
  #flying = 0;
  #lastSent = 0;
  #opened = Promise.withResolvers<void>();

  constructor(roundTripMs: number, slowStart: boolean) {
    this.#roundTripMs = roundTripMs;
    this.#first = slowStart ? INITIAL_WINDOW_BYTES : LARGEST_WINDOW_BYTES;
    this.#size = this.#first;
  }

  /** Bytes that may be sent now. */
  get free(): number {
    return Math.max(0, this.#size - this.#flying);
  }

  /** Resolves when something may be sent, with the time since when: now if nothing had to be waited for, it is 0. */
  async room(): Promise<number> {
    if (this.#flying === 0 && performance.now() - this.#lastSent > IDLE_MS) this.#size = this.#first;
    if (this.free > 0) return 0;
    while (this.free === 0) await this.#opened.promise;
    return performance.now();
  }

  /** So many bytes were sent; `arrived` resolves when they are there, and half a round trip later this end knows. */
  sent(bytes: number, arrived: Promise<void>): void {
    this.#flying += bytes;
    this.#lastSent = performance.now();
    void arrived.then(() => setTimeout(() => this.#acknowledged(bytes), this.#roundTripMs / 2));
  }

  #acknowledged(bytes: number): void {
    this.#flying -= bytes;
    this.#size = Math.min(LARGEST_WINDOW_BYTES, this.#size + bytes);
    this.#opened.resolve();
    this.#opened = Promise.withResolvers<void>();
  }
}
