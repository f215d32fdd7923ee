/**
 * The connections to a registry: undici's agents, with the certificates, proxies and the care for early answers that
 * pushes need.
 */

import type { LookupFunction, Socket } from 'node:net';
import { Agent, buildConnector, type Dispatcher, Pool, ProxyAgent } from 'undici';
import { untilAborted } from '../../common/async.ts';
import { EarlyConnections } from './early-connections.ts';
import type { Proxies, ProxyServer } from './proxies.ts';
import type { Trust } from './trust.ts';
import { guardedLookup } from './url-policy.ts';

/**
 * Connections are kept this long between requests: as servers commonly do (nginx 75 s, Node 5 s), less where they
 * announce it.
 */
const KEEP_ALIVE_MS = 4_000;

interface ConnectionsOptions {
  readonly proxies: Proxies;
  readonly trust: Trust;
  /** Until a connection is there, in milliseconds. */
  readonly connectTimeout: number;
  /** The most connections to one origin at a time. */
  readonly perOrigin: number;
  /** Whether a URL is the registry's own: addresses of others are checked when their names are resolved. */
  isOwn(url: URL): boolean;
}

/** A connection for one request. */
export interface Lease {
  readonly dispatcher: Dispatcher;
  /** The proxy that the request goes through. */
  readonly proxy: ProxyServer | undefined;
  /** To be called once the answer has ended, or will never come. */
  release(): void;
}

/**
 * HTTP/1.1 only: over HTTP/2 one reset stream of a CDN takes all uploads with it, and their bodies share one window.
 * One request at a time on a connection. The deadlines are our own, so undici's are off.
 */
export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #slots = new Map<string, Slots>();
  readonly #early: EarlyConnections;
  readonly #own: Agent;
  /** For requests that want a connection of their own: it ends with them. */
  readonly #fresh: Agent;
  readonly #foreign: Agent;
  readonly #proxied = new Map<ProxyServer, ProxyAgent>();

  constructor(options: ConnectionsOptions) {
    this.#options = options;
    this.#early = new EarlyConnections(this.#connector({}));
    this.#own = new Agent({ ...this.#common, connect: this.#early.connector });
    this.#fresh = new Agent({ ...this.#common, connect: this.#connector({}) });
    this.#foreign = new Agent({ ...this.#common, connect: this.#connector({ lookup: guardedLookup }) });
  }

  /**
   * A connection for a request to `url`, once fewer than the most allowed are in use. Throws Error for a proxy variable
   * that can't be read, or the reason of the signal. `fresh`: one that no request has used, where the registry is
   * reached directly.
   */
  async take(url: URL, signal: AbortSignal, fresh = false): Promise<Lease> {
    const { proxies, perOrigin, isOwn } = this.#options;
    const proxy = proxies.for(url);
    const slots = this.#slots.get(url.origin) ?? new Slots(perOrigin);
    this.#slots.set(url.origin, slots);
    const release = await slots.take(signal);
    const direct = isOwn(url) ? (fresh ? this.#fresh : this.#own) : this.#foreign;
    const dispatcher = proxy === undefined ? direct : this.#through(proxy);
    return { dispatcher, proxy, release };
  }

  /**
   * Opens all the connections to the registry that there may be, before requests need them: one that is opened later
   * costs a request two round trips, more than to wait for a free one. Through a proxy nothing is opened ahead.
   * Resolves to whether one of them could be opened.
   */
  async open(origin: URL): Promise<boolean> {
    const { proxies, perOrigin } = this.#options;
    return proxies.for(origin) === undefined && (await this.#early.open(origin, perOrigin));
  }

  /** Closes what `open` has opened to an origin and no request has used. */
  closeUnused(origin: URL): void {
    this.#early.close(origin);
  }

  /** Ends every connection at once. */
  async destroy(): Promise<void> {
    this.#early.close();
    await Promise.all(
      [this.#own, this.#fresh, this.#foreign, ...this.#proxied.values()].map((agent) => agent.destroy()),
    );
  }

  get #common() {
    return {
      allowH2: false,
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE_MS,
      headersTimeout: 0,
      bodyTimeout: 0,
      connections: this.#options.perOrigin,
      factory: (origin: string | URL, pool: object) => new Pool(origin, holdingWriteErrors(pool as Pool.Options)),
    };
  }

  /** Plain connections never ask for the trust of TLS ones. */
  #connector(more: { readonly lookup?: LookupFunction }): buildConnector.connector {
    const { trust, connectTimeout } = this.#options;
    const base = { allowH2: false, timeout: connectTimeout, ...more };
    const plain = buildConnector(base);
    let secure: buildConnector.connector | undefined;
    return (options, callback) => {
      if (options.protocol !== 'https:') return plain(options, callback);
      secure ??= buildConnector({ ...base, ...trust() });
      secure(options, callback);
    };
  }

  #through(proxy: ProxyServer): ProxyAgent {
    const known = this.#proxied.get(proxy);
    if (known !== undefined) return known;
    const { address, username, password } = proxy;
    const { trust, connectTimeout } = this.#options;
    const tls = { allowH2: false, timeout: connectTimeout, ...trust() };
    const basic = Buffer.from(`${username}:${password}`).toString('base64');
    const isSocks = address.startsWith('socks');
    const agent = new ProxyAgent({
      ...this.#common,
      uri: isSocks && username !== '' ? withUser(proxy) : address,
      ...(isSocks || username === '' ? {} : { token: `Basic ${basic}` }),
      connect: tls,
      requestTls: tls,
      // A client certificate is for the registry.
      proxyTls: { ...tls, cert: undefined, key: undefined },
    });
    this.#proxied.set(proxy, agent);
    return agent;
  }
}

function withUser({ address, username, password }: ProxyServer): string {
  const url = new URL(address);
  url.username = encodeURIComponent(username);
  url.password = encodeURIComponent(password);
  return url.href;
}

/**
 * How many requests to one origin are under way. undici's own limit would do, but a request that waits for a connection
 * must not be ended by the time limit that is for making one.
 */
class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** Resolves with the function that frees the slot. Rejects with the signal's reason. */
  async take(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#free > 0) this.#free -= 1;
    else {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.push(resolve);
      await untilAborted(promise, signal).catch((error: unknown) => {
        const at = this.#waiting.indexOf(resolve);
        // The slot was handed over just when the request was cancelled.
        if (at < 0) this.#release();
        else this.#waiting.splice(at, 1);
        throw error;
      });
    }
    let isReleased = false;
    return () => {
      if (!isReleased) this.#release();
      isReleased = true;
    };
  }

  #release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else next();
  }
}

// The answer to a body that a server does not want to the end.

/** How long the answer to a request may still come after the server stopped taking its body. */
const LATE_ANSWER_MS = 2_000;

/** A pool whose sockets hold a write error back: see holdWriteErrors. */
function holdingWriteErrors(pool: Pool.Options): Pool.Options {
  const connect = typeof pool.connect === 'function' ? pool.connect : buildConnector({ ...pool.connect });
  const holding: buildConnector.connector = (options, callback) =>
    connect(options, (...[error, socket]) => {
      if (error !== null) return callback(error, null);
      holdWriteErrors(socket);
      callback(null, socket);
    });
  return { ...pool, connect: holding };
}

/**
 * A server that refuses a body (413) answers at once and closes while we are still writing. Our next write then fails
 * with EPIPE or ECONNRESET, and Node.js destroys the socket, with the answer unread in the kernel's buffer. So a write
 * error is held back until the reading side has come to its end too, which is moments later, or for LATE_ANSWER_MS.
 */
function holdWriteErrors(socket: Socket): void {
  const write = socket._write;
  socket._write = (chunk, encoding, callback) => write.call(socket, chunk, encoding, held(socket, callback));
  const writev = socket._writev;
  if (writev) socket._writev = (chunks, callback) => writev.call(socket, chunks, held(socket, callback));
}

type WriteCallback = (error?: Error | null) => void;

const held =
  (socket: Socket, callback: WriteCallback): WriteCallback =>
  (error) => {
    if (!error || socket.destroyed || socket.readableEnded) callback(error);
    else afterAnswer(socket, () => callback(error));
  };

function afterAnswer(socket: Socket, then: () => void): void {
  const timer = setTimeout(finish, LATE_ANSWER_MS).unref();
  socket.once('end', finish).once('close', finish);
  function finish(): void {
    clearTimeout(timer);
    socket.off('end', finish).off('close', finish);
    then();
  }
}
