/** One request through the proxy: what befalls it, and what its client gets. */
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { type Answer, refusal, withHeaders } from '../registry/answer.ts';
import { write } from '../registry/connection.ts';
import type { Fault } from './faults.ts';
import { type Arrival, forward, headersBack, type Journey, type Link, passBack } from './forward.ts';

/** All that one request needs. */
export interface Trip {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Taken at once: a request that was given up has none any more. */
  readonly socket: Socket;
  readonly link: Link;
  /** The authorities of target and proxy, for URLs in answers. */
  readonly target: string;
  readonly host: string;
}

const cutOff = ({ socket }: Trip): void => void socket.destroy();

/** The head of an answer as bytes, for those who get only a part of it. */
function headOf(incoming: IncomingMessage, headers: readonly string[]): Buffer {
  const lines: string[] = [];
  for (let n = 0; n < headers.length; n += 2) lines.push(`${headers[n]}: ${headers[n + 1]}\r\n`);
  const status = incoming.statusCode ?? 502;
  return Buffer.from(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${lines.join('')}\r\n`);
}

/** An answer that came before the body was through: the client may still be sending, so its connection lingers. */
async function passEarly(trip: Trip, incoming: IncomingMessage, headers: readonly string[]): Promise<void> {
  const pieces: Buffer[] = [];
  for await (const piece of incoming as AsyncIterable<Buffer>) pieces.push(piece);
  const pairs = Array.from({ length: headers.length / 2 }, (_, n) => [headers[2 * n], headers[2 * n + 1]]);
  const named = Object.fromEntries(pairs.filter(([name]) => name?.toLowerCase() !== 'content-length'));
  const given: Answer = {
    status: incoming.statusCode ?? 502,
    headers: named,
    body: Buffer.concat(pieces),
    ending: 'linger',
  };
  await write(trip.request, trip.response, given);
}

/** Passes on what the target said, or cuts the client off when it said nothing. */
async function deliver(trip: Trip, arrival: Arrival): Promise<void> {
  if (arrival.kind !== 'answered' || arrival.dropped) return cutOff(trip);
  const headers = headersBack(arrival.incoming, trip.target, trip.host);
  if (arrival.early) return passEarly(trip, arrival.incoming, headers);
  return passBack(arrival.incoming, trip.response, headers);
}

/** What the target says about a session, asked by the proxy itself with the client's credentials. */
async function sessionState({ request, target }: Trip): Promise<Record<string, string | undefined>> {
  const { authorization, cookie } = request.headers;
  const headers = { ...(authorization ? { authorization } : {}), ...(cookie ? { cookie } : {}) };
  const reply = await fetch(`http://${target}${request.url}`, { headers });
  return {
    Location: reply.headers.get('location')?.replaceAll(target, request.headers.host ?? target) ?? request.url,
    Range: reply.headers.get('range') ?? undefined,
  };
}

async function refuseRange(trip: Trip, tells: boolean): Promise<void> {
  const bare: Answer = { ...refusal(416, 'BLOB_UPLOAD_INVALID', 'requested range not satisfiable'), ending: 'linger' };
  await write(trip.request, trip.response, tells ? withHeaders(bare, await sessionState(trip)) : bare);
}

async function truncate(trip: Trip, arrival: Arrival, after: number): Promise<void> {
  if (arrival.kind !== 'answered') return cutOff(trip);
  const { incoming } = arrival;
  let left = after;
  const write = (bytes: Buffer): Promise<void> => {
    const given = bytes.subarray(0, left);
    left -= given.length;
    return new Promise((resolve) => trip.socket.write(given, () => resolve()));
  };
  await write(headOf(incoming, headersBack(incoming, trip.target, trip.host)));
  for await (const piece of incoming as AsyncIterable<Buffer>) {
    if (left === 0) break;
    await write(piece);
  }
  cutOff(trip);
}

const go = (trip: Trip, journey: Journey = {}): Promise<Arrival> => forward(trip.request, trip.link, journey);

/** The target takes the request; what it says is thrown away. */
async function goInVain(trip: Trip): Promise<void> {
  const arrival = await go(trip);
  if (arrival.kind === 'answered') arrival.incoming.resume();
}

async function suffer(trip: Trip, fault: Fault): Promise<void> {
  switch (fault.kind) {
    case 'cut':
      return deliver(trip, await go(trip, { cutAfter: fault.after }));
    case 'drop':
      await goInVain(trip);
      return cutOff(trip);
    case 'reset':
      trip.socket.resetAndDestroy();
      return;
    case 'hang':
      if (fault.when === 'after') await goInVain(trip);
      return;
    case 'slow': {
      const arrival = await go(trip, { bytesPerSecond: fault.bytesPerSecond });
      await fault.answerAfter(trip.link.clock);
      return deliver(trip, arrival);
    }
    case 'answer':
      if (fault.when === 'after') await goInVain(trip);
      return write(trip.request, trip.response, fault.answer);
    case 'range':
      return refuseRange(trip, fault.tells);
    case 'expire':
      return deliver(trip, await go(trip, { withoutCredentials: true }));
    case 'truncate':
      return truncate(trip, await go(trip), fault.after);
  }
}

/** Takes a request to the target and the answer back, with a fault or without. Never rejects. */
export async function travel(trip: Trip, fault: Fault | undefined): Promise<void> {
  const done = fault === undefined ? go(trip).then((arrival) => deliver(trip, arrival)) : suffer(trip, fault);
  await done.catch(() => cutOff(trip));
}
