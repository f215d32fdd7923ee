/** The connections to a registry: undici's agents, with the certificates, proxies and the care for early answers that pushes need. */

import type { Socket } from 'node:net';
import { Agent, buildConnector, type Dispatcher, EnvHttpProxyAgent, Pool } from 'undici';
import type { Proxies } from './proxies.ts';
import type { Trust } from './trust.ts';
import { isLoopback } from './url-policy.ts';

/** Connections are kept this long between requests: as servers commonly do (nginx 75 s, Node 5 s), less where they announce it. */
const KEEP_ALIVE_MS = 4_000;

/** How long the answer to a request may still come after the server stopped taking its body. */
const LAST_WORDS_MS = 2_000;

export interface DispatcherOptions {
  readonly proxies: Proxies;
  readonly trust: Trust;
  /** Until a connection is there, in milliseconds. */
  readonly connectTimeout: number;
}

/** The connections to all hosts, through the environment's proxies or not. */
export interface Dispatchers {
  /** The one for a URL. */
  of(url: URL): Dispatcher;
  /** Ends every connection at once. */
  destroy(): Promise<void>;
}

/**
 * HTTP/1.1 only: over HTTP/2 one reset stream of a CDN takes all uploads with it, and their bodies share one window.
 * One request a connection, as many connections as requests. The deadlines are our own, so undici's are off.
 */
export function createDispatchers({ proxies, trust, connectTimeout }: DispatcherOptions): Dispatchers {
  const base = { allowH2: false, timeout: connectTimeout };
  const common = {
    allowH2: false,
    pipelining: 1,
    keepAliveTimeout: KEEP_ALIVE_MS,
    headersTimeout: 0,
    bodyTimeout: 0,
    factory: (origin: string | URL, pool: object) => new Pool(origin, withLastWords(pool as Pool.Options)),
  };
  const direct = new Agent({ ...common, connect: connector(base, trust) });
  let agent: Dispatcher | undefined;
  const proxied = (): Dispatcher => {
    agent ??= proxiedAgent(proxies, common, { ...base, secureContext: trust() });
    return agent;
  };
  return {
    // As for Go's clients and curl: this machine is never behind a proxy, and HTTP_PROXY is for plain HTTP alone.
    of: (url) =>
      isLoopback(url) || (url.protocol === 'https:' ? proxies.https : proxies.http) === '' ? direct : proxied(),
    destroy: async () => {
      await Promise.all([direct.destroy(), agent?.destroy()]);
    },
  };
}

/** Plain connections never ask for the trust of TLS ones. */
function connector(base: buildConnector.BuildOptions, trust: Trust): buildConnector.connector {
  const plain = buildConnector(base);
  let secure: buildConnector.connector | undefined;
  return (options, callback) => {
    if (options.protocol !== 'https:') return plain(options, callback);
    secure ??= buildConnector({ ...base, secureContext: trust() });
    secure(options, callback);
  };
}

/** A pool whose sockets are patient with a write error: see holdWriteErrors. */
function withLastWords(pool: Pool.Options): Pool.Options {
  const connect = typeof pool.connect === 'function' ? pool.connect : buildConnector({ ...pool.connect });
  const patient: buildConnector.connector = (options, callback) =>
    connect(options, (...[error, socket]) => {
      if (error !== null) return callback(error, null);
      holdWriteErrors(socket);
      callback(null, socket);
    });
  return { ...pool, connect: patient };
}

/**
 * A server that refuses a body (413) answers at once and closes while we are still writing. Our next write then fails with
 * EPIPE or ECONNRESET, and Node.js destroys the socket, with the answer unread in the kernel's buffer. So a write error is held back
 * until the reading side has come to its end too, which is moments later, or for LAST_WORDS_MS.
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
    else afterLastWords(socket, () => callback(error));
  };

function afterLastWords(socket: Socket, then: () => void): void {
  const timer = setTimeout(finish, LAST_WORDS_MS).unref();
  socket.once('end', finish).once('close', finish);
  function finish(): void {
    clearTimeout(timer);
    socket.off('end', finish).off('close', finish);
    then();
  }
}

/** Agents for every host, through its proxy if there is one. `tls` is for the connections to proxies and, through them, to hosts. */
function proxiedAgent(
  { http, https, except }: Proxies,
  options: Agent.Options,
  tls: buildConnector.BuildOptions,
): Dispatcher {
  const routes = { httpProxy: http, httpsProxy: https, noProxy: except };
  return new EnvHttpProxyAgent({ ...options, ...routes, connect: tls, requestTls: tls, proxyTls: tls });
}
