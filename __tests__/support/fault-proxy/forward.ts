/** One request on its way to the target and its answer back, with what befalls it. */
import { type ClientRequest, request as connect, type IncomingMessage, type ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { Cutter } from './cuts.ts';
import { Bucket, type LinkClock } from './shaping.ts';

/** Headers that belong to one connection. RFC 9110 section 7.6.1. */
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'upgrade', 'expect']);

export interface Link {
  readonly hostname: string;
  readonly port: number;
  /** Shared by all connections; undefined when there is no limit. */
  readonly bucket: Bucket | undefined;
  readonly roundTripMs: number;
  readonly clock: LinkClock;
  readonly cutter: Cutter;
  /** Counts a piece of a body that went to the target. */
  readonly count: (bytes: number) => void;
}

export interface Journey {
  /** Cut after so many bytes of the body. */
  readonly cutAfter?: number;
  readonly bytesPerSecond?: number;
  readonly withoutCredentials?: boolean;
}

/** How it ended: an answer that waits to be passed on, a cut, or the target hung up without an answer. */
export type Arrival =
  | {
      readonly kind: 'answered';
      readonly incoming: IncomingMessage;
      readonly dropped: boolean;
      readonly early: boolean;
    }
  | { readonly kind: 'cut' }
  | { readonly kind: 'refused' };

const passable = (raw: readonly string[], without: (name: string) => boolean): string[] => {
  const headers: string[] = [];
  for (let n = 0; n + 1 < raw.length; n += 2) {
    const name = raw[n] ?? '';
    const folded = name.toLowerCase();
    if (!HOP_BY_HOP.has(folded) && !without(folded)) headers.push(name, raw[n + 1] ?? '');
  }
  return headers;
};

function open(request: IncomingMessage, link: Link, journey: Journey): ClientRequest {
  const headers = passable(
    request.rawHeaders,
    (name) => journey.withoutCredentials === true && name === 'authorization',
  );
  const { hostname, port } = link;
  const { method, url } = request;
  // A connection of its own for each request: one that was kept could be dead, which would be a fault nobody asked for.
  return connect({ hostname, port, method, path: url, headers, setHost: false, agent: false });
}

/** Sends the body through cuts and limits. Gives how it went: to the end, cut, or to the end with a dropped answer. */
async function sendBody(request: IncomingMessage, outgoing: ClientRequest, link: Link, journey: Journey) {
  const own = journey.bytesPerSecond === undefined ? undefined : new Bucket(journey.bytesPerSecond, link.clock);
  let left = journey.cutAfter ?? Number.POSITIVE_INFINITY;
  let drops = false;
  if (Number(request.headers['content-length'] ?? 0) > 0) outgoing.flushHeaders();
  for await (const piece of request as AsyncIterable<Buffer>) {
    const planned = link.cutter.pass(piece.length);
    const bytes = Math.min(planned.bytes, left);
    left -= bytes;
    drops ||= planned.next === 'drop';
    await link.bucket?.take(bytes);
    await own?.take(bytes);
    if (await writeTo(outgoing, piece.subarray(0, bytes))) link.count(bytes);
    if (planned.next === 'cut' || left === 0) return 'cut';
  }
  if (journey.cutAfter !== undefined) return 'cut';
  outgoing.end();
  return drops ? 'drops' : 'sent';
}

/**
 * Writes and waits until the bytes are with the operating system; tells whether they are. What a target that is gone
 * does not take is thrown away, so that the client's body is still read to its end.
 */
const writeTo = (outgoing: ClientRequest, piece: Buffer): Promise<boolean> =>
  new Promise((resolve) => {
    if (outgoing.destroyed) resolve(false);
    else if (piece.length === 0) resolve(true);
    else outgoing.write(piece, (cause) => resolve(cause === null || cause === undefined));
  });

/** Resolves when a head that was flushed is with the operating system, or never will be. */
const headGone = (outgoing: ClientRequest): Promise<void> =>
  new Promise((resolve) => {
    const gone = () => setImmediate(resolve);
    if (outgoing.destroyed || outgoing.socket?.connecting === false) gone();
    else outgoing.once('close', gone).once('socket', (socket) => socket.once('connect', gone));
    if (outgoing.socket?.connecting === true) outgoing.socket.once('connect', gone);
  });

/** Ends the target's connection when the client's ends. */
function bind(request: IncomingMessage, outgoing: ClientRequest): void {
  const { socket } = request;
  const end = () => void outgoing.destroy();
  socket.once('close', end);
  outgoing.once('close', () => socket.removeListener('close', end));
}

/** Sends a request to the target. Never rejects. */
export async function forward(request: IncomingMessage, link: Link, journey: Journey): Promise<Arrival> {
  const outgoing = open(request, link, journey);
  bind(request, outgoing);
  const answered = new Promise<IncomingMessage | undefined>((resolve) => {
    outgoing.once('response', resolve);
    outgoing.on('error', () => resolve(undefined));
    outgoing.once('close', () => resolve(undefined));
  });
  const sending = sendBody(request, outgoing, link, journey).catch(() => 'cut' as const);
  // An answer may come before the body is through, as a 413 does: it must not wait for the rest.
  if ((await Promise.race([answered, sending])) === 'cut') {
    // A cut at byte 0 of a body still lets the head through.
    await headGone(outgoing);
    outgoing.destroy();
    return { kind: 'cut' };
  }
  const incoming = await answered;
  if (incoming === undefined) return { kind: 'refused' };
  const early = !request.complete;
  const dropped = !early && (await sending) === 'drops';
  if (link.roundTripMs > 0) await link.clock.sleep(link.roundTripMs);
  return { kind: 'answered', incoming, dropped, early };
}

/** Headers of the target's answer, absolute URLs of the target turned to the proxy. */
export function headersBack(incoming: IncomingMessage, from: string, to: string): string[] {
  const headers = passable(incoming.rawHeaders, () => false);
  return headers.map((text, n) => {
    const name = (headers[n - 1] ?? '').toLowerCase();
    const turns = n % 2 === 1 && (name === 'location' || name === 'www-authenticate' || name === 'link');
    return turns ? text.replaceAll(from, to) : text;
  });
}

/** Passes an answer on to the client, streaming. Rejects when either side breaks off. */
export async function passBack(
  incoming: IncomingMessage,
  response: ServerResponse,
  headers: readonly string[],
): Promise<void> {
  response.writeHead(incoming.statusCode ?? 502, [...headers]);
  await pipeline(incoming, response);
}
