/**
 * Connections that are opened before a request needs them. A TCP and TLS handshake costs two round trips; opened
 * together and ahead of time, no request waits for them. undici opens a connection with the first request on it only,
 * so this stands in for its connector.
 */

import type { Socket } from 'node:net';
import type { buildConnector } from 'undici';

/**
 * Middleboxes forget connections without traffic after minutes, some load balancers answer 408 after 10 s: see
 * `#watch`.
 */
const UNUSED_MS = 30_000;

type Callback = Parameters<buildConnector.connector>[1];

interface Early {
  /** Undefined until the handshakes are done. */
  socket: Socket | undefined;
  /** A request that waits for the handshakes. */
  waiting: Callback | undefined;
  release: (() => void) | undefined;
}

export class EarlyConnections {
  readonly #connect: buildConnector.connector;
  readonly #early = new Map<string, Set<Early>>();

  constructor(connect: buildConnector.connector) {
    this.#connect = connect;
  }

  /**
   * Starts to open `count` connections to an origin. Resolves to true with the first handshake that succeeds, to false
   * when all have failed. Never throws: a request that finds none opens its own and reports why not.
   */
  open(origin: URL, count: number): Promise<boolean> {
    const { protocol, port, host, hostname } = origin;
    const options = { protocol, port, host, hostname: hostname.replace(/^\[(.*)\]$/, '$1') };
    const all = this.#early.get(origin.origin) ?? new Set<Early>();
    this.#early.set(origin.origin, all);
    const opened = Promise.withResolvers<boolean>();
    let failed = 0;
    const onEnd = (succeeded: boolean): void => {
      failed += succeeded ? 0 : 1;
      if (succeeded || failed === count) opened.resolve(succeeded);
    };
    for (let n = 0; n < count; n++) this.#open(options, all, onEnd);
    return opened.promise;
  }

  /** undici's connector: hands out an early connection where there is one, else opens one. */
  readonly connector: buildConnector.connector = (options, callback) => {
    const { protocol, hostname, port } = options;
    const host = hostname.includes(':') ? `[${hostname}]` : hostname;
    const all = this.#early.get(new URL(`${protocol}//${host}:${port || (protocol === 'https:' ? 443 : 80)}`).origin);
    const free = [...(all ?? [])].filter(({ waiting }) => waiting === undefined);
    const early = free.find(({ socket }) => socket !== undefined) ?? free[0];
    if (all === undefined || early === undefined) return void this.#connect(options, callback);
    if (early.socket === undefined) {
      early.waiting = callback;
      return;
    }
    all.delete(early);
    early.release?.();
    // undici does not expect its connector to call back before it returns.
    queueMicrotask(() => callback(null, early.socket!));
  };

  /** Closes the connections to an origin that no request has taken; all of them by default. */
  close(origin?: URL): void {
    for (const [name, all] of this.#early) {
      if (origin !== undefined && name !== origin.origin) continue;
      for (const early of all) {
        if (early.waiting !== undefined) continue;
        early.release?.();
        early.socket?.destroy();
        all.delete(early);
      }
    }
  }

  #open(options: buildConnector.Options, all: Set<Early>, onEnd: (succeeded: boolean) => void): void {
    const early: Early = { socket: undefined, waiting: undefined, release: undefined };
    all.add(early);
    this.#connect(options, (error, socket) => {
      const { waiting } = early;
      onEnd(error === null);
      if (waiting !== undefined || error !== null) {
        all.delete(early);
        if (error === null) waiting?.(null, socket);
        else waiting?.(error, null);
      } else if (!all.has(early)) {
        socket.destroy();
      } else {
        early.socket = socket;
        this.#watch(early, socket, all);
      }
    });
  }

  /**
   * A connection on which something comes before a request (HAProxy's 408, a TLS alert, its end) is of no use any more.
   */
  #watch(early: Early, socket: Socket, all: Set<Early>): void {
    const drop = (): void => {
      all.delete(early);
      early.release?.();
      socket.destroy();
    };
    const ignore = (): void => {};
    const timer = setTimeout(drop, UNUSED_MS).unref();
    early.release = () => {
      clearTimeout(timer);
      socket.off('readable', drop).off('end', drop).off('close', drop).ref();
      // An error that comes with the hand-over is undici's to see; until it listens, this keeps it from ending the
      // process.
      setImmediate(() => socket.off('error', ignore));
      early.release = undefined;
    };
    socket.on('error', ignore).once('readable', drop).once('end', drop).once('close', drop).unref();
  }
}
