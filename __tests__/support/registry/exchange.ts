/** One request as handlers and quirks see it, and what is written down of it. */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { bodyOf } from './body.ts';
import { type Route, routeOf, type Step } from './steps.ts';

/** What the registry remembers of a request. Times are ms since the epoch. */
export interface RequestRecord {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: IncomingHttpHeaders;
  readonly step: Step;
  readonly repository: string;
  /** Bytes of the body that were read. */
  bytes: number;
  /** 0 as long as nothing was answered, for ever when the connection was hung up. */
  status: number;
  /** The body was cut off before its end. */
  broken: boolean;
  readonly startedAt: number;
  endedAt: number | undefined;
}

export interface Exchange {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly route: Route;
  /** Scheme and authority that the client asked, so that absolute URLs lead the way that it came. */
  readonly origin: string;
  /** What Content-Length promises; undefined with chunked transfer encoding or without a body. */
  readonly length: number | undefined;
  /** Whether the body comes with chunked transfer encoding. */
  readonly unsized: boolean;
  readonly record: RequestRecord;
  /** The body, once. Throws when it breaks off. */
  body(): AsyncIterable<Buffer>;
}

/** Begins the record of a request and gives both. */
export function exchangeOf(request: IncomingMessage): Exchange {
  const scheme = 'encrypted' in request.socket ? 'https' : 'http';
  const origin = `${scheme}://${request.headers.host ?? 'localhost'}`;
  const url = new URL(request.url ?? '/', 'http://registry.invalid');
  const method = request.method ?? 'GET';
  const route = routeOf(method, url.pathname, url.searchParams);
  const record: RequestRecord = {
    method,
    path: url.pathname,
    query: Object.fromEntries(url.searchParams),
    headers: request.headers,
    step: route.step,
    repository: route.repository,
    bytes: 0,
    status: 0,
    broken: false,
    startedAt: Date.now(),
    endedAt: undefined,
  };
  const length = request.headers['content-length'];
  return {
    method,
    path: url.pathname,
    query: url.searchParams,
    headers: request.headers,
    route,
    origin,
    length: length === undefined ? undefined : Number(length),
    unsized: request.headers['transfer-encoding'] !== undefined,
    record,
    body: () => bodyOf(request, record),
  };
}

/** All of a body that is known to be small. Throws when it breaks off. */
export async function readAll(exchange: Exchange): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const bytes of exchange.body()) pieces.push(bytes);
  return Buffer.concat(pieces);
}

/** Reads a body and throws it away. */
export async function drain(exchange: Exchange): Promise<void> {
  for await (const _ of exchange.body());
}
