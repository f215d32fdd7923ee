/** A proxy on loopback in front of any HTTP registry, which lets faults befall requests and makes links slow. */
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import type { Socket } from 'node:net';
import { listenOnLoopback, PATIENT } from '../registry/loopback.ts';
import { routeOf, type Step } from '../registry/steps.ts';
import { type CutPlan, Cutter } from './cuts.ts';
import type { Link } from './forward.ts';
import { type AddedRule, type FaultRule, Rules, type SeenRequest } from './rules.ts';
import { Bucket, type LinkClock, SYSTEM_LINK_CLOCK } from './shaping.ts';
import { travel } from './trip.ts';

export interface FaultProxyOptions {
  /** `http://HOST:PORT` or `HOST:PORT` of the registry. */
  readonly target: string;
  /** For cuts at random places; 1 unless told. */
  readonly seed?: number;
  /** Bytes a second up, over all connections together. */
  readonly bandwidth?: number;
  /** ms that every answer waits; a new connection costs it once more. */
  readonly roundTripMs?: number;
  readonly clock?: LinkClock;
  /** Each connection ends with its first answer. */
  readonly oneRequestEach?: boolean;
}

/** What went through. */
export interface ProxyStats {
  connections: number;
  requests: number;
  /** Bytes of bodies that went to the target. */
  bodyBytes: number;
  /** Requests that a rule befell. */
  faults: number;
  readonly bySteps: Map<Step, number>;
  /** Requests that are over, one way or the other. */
  readonly over: Map<Step, number>;
}

/** How a connection dies on which no request has come yet: its end, a reset, or an answer to none (HAProxy). */
export type UnusedEnd = 'end' | 'reset' | '408';

export interface FaultProxy {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  readonly url: string;
  readonly faults: {
    add(rule: FaultRule): AddedRule;
    clear(): void;
    /** Cuts at random byte offsets of all bodies from here on. */
    cutRandomly(plan: CutPlan): void;
    /** Random cuts that were made, and that are still to come. */
    cuts(): { made: number; pending: number };
    /** Ends the connections on which no request has come yet. */
    endUnused(how: UnusedEnd): void;
  };
  /** Connections on which no request has come yet. */
  unused(): number;
  readonly stats: ProxyStats;
  close(): Promise<void>;
}

function see(request: IncomingMessage): SeenRequest {
  const url = new URL(request.url ?? '/', 'http://proxy.invalid');
  const method = request.method ?? 'GET';
  const { step, repository } = routeOf(method, url.pathname, url.searchParams);
  const range = /(\d+)-(\d+)/.exec(request.headers['content-range'] ?? '');
  return {
    step,
    repository,
    method,
    path: url.pathname,
    headers: request.headers,
    length: Number(request.headers['content-length'] ?? 0),
    range: range === null ? undefined : { start: Number(range[1]), end: Number(range[2]) },
  };
}

/** The link to the target, with its limits. */
const linkTo = (target: URL, options: FaultProxyOptions, cutter: Cutter, stats: ProxyStats): Link => ({
  hostname: target.hostname,
  port: Number(target.port || 80),
  bucket: options.bandwidth === undefined ? undefined : new Bucket(options.bandwidth, options.clock),
  clock: options.clock ?? SYSTEM_LINK_CLOCK,
  roundTripMs: options.roundTripMs ?? 0,
  cutter,
  count: (bytes) => {
    stats.bodyBytes += bytes;
  },
});

/** What is done with each request. `fresh` are connections that have not had one yet. */
const listener =
  (target: string, link: Link, rules: Rules, stats: ProxyStats, fresh: Set<Socket>): RequestListener =>
  async (request, response) => {
    const { socket } = request;
    const seen = see(request);
    stats.requests += 1;
    stats.bySteps.set(seen.step, (stats.bySteps.get(seen.step) ?? 0) + 1);
    const isFirst = fresh.delete(socket);
    const due = rules.dueFor(seen);
    if (due !== undefined) stats.faults += 1;
    await due?.held?.(seen);
    if (isFirst && link.roundTripMs > 0) await link.clock.sleep(link.roundTripMs);
    await travel({ request, response, socket, link, target, host: request.headers.host ?? target }, due?.fault);
    stats.over.set(seen.step, (stats.over.get(seen.step) ?? 0) + 1);
  };

const endOf: Readonly<Record<UnusedEnd, (socket: Socket) => void>> = {
  end: (socket) => void socket.end(),
  reset: (socket) => void socket.resetAndDestroy(),
  408: (socket) => void socket.end('HTTP/1.1 408 Request Time-out\r\nConnection: close\r\n\r\n'),
};

/** Starts a proxy on 127.0.0.1. The caller closes it. */
export async function startFaultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  const target = new URL(options.target.includes('://') ? options.target : `http://${options.target}`);
  const rules = new Rules();
  const cutter = new Cutter(options.seed ?? 1);
  const stats: ProxyStats = {
    connections: 0,
    requests: 0,
    bodyBytes: 0,
    faults: 0,
    bySteps: new Map(),
    over: new Map(),
  };
  const fresh = new Set<Socket>();
  const listen = listener(target.host, linkTo(target, options, cutter, stats), rules, stats, fresh);
  const server = createServer(PATIENT, (request, response) => {
    if (options.oneRequestEach === true) response.shouldKeepAlive = false;
    void listen(request, response);
  });
  server.on('connection', (socket) => {
    stats.connections += 1;
    fresh.add(socket);
    socket.on('close', () => fresh.delete(socket));
  });
  const { host, close } = await listenOnLoopback(server);
  const faults = {
    add: (rule: FaultRule) => rules.add(rule),
    clear: () => rules.clear(),
    cutRandomly: (plan: CutPlan) => cutter.plan(plan),
    cuts: () => ({ made: cutter.made, pending: cutter.pending }),
    endUnused: (how: UnusedEnd) => {
      for (const socket of fresh) endOf[how](socket);
      fresh.clear();
    },
  };
  return { host, url: `http://${host}`, faults, unused: () => fresh.size, stats, close };
}
