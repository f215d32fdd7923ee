/** The faults of the matrix: what happens, how often, and what it may cost. */

import {
  cutAfter,
  dropAnswer,
  expireToken,
  type Fault,
  gatewayError,
  hang,
  outOfRange,
  registryError,
  resetBefore,
  slow,
  tooLarge,
  tooMany,
  truncateAnswer,
} from '../support/fault-proxy/faults.ts';
import type { UnusedEnd } from '../support/fault-proxy/proxy.ts';

export interface FaultKind {
  readonly name: string;
  readonly fault: () => Fault;
  /** Once, or at every such request. */
  readonly times: 'once' | 'always';
  /** What an error that it leads to must say. */
  readonly says: RegExp;
  /** Needs a body to break, an upload session to talk about, or credentials to expire. */
  readonly needs?: 'body' | 'session' | 'credentials';
  /** Takes a time-out to notice. */
  readonly hangs?: boolean;
  /** From the step's first request on all requests end so, for this time (seconds of the cell's clock). */
  readonly outage?: number;
  /** At the step's first request the connections die that were opened early and have had no request; it goes through itself. */
  readonly unused?: UnusedEnd;
}

/** Where a body is cut, bytes: in the middle of the smallest one that the matrix sends, a manifest. */
const CUT_AT = 200;

/** Bytes of an answer that come before it is cut: not even its head. */
const BEGINNING = 20;

const broken = /reset|closed|broke|ended|ECONNRESET|socket hang up|terminated/i;

const once = (name: string, fault: Fault | (() => Fault), says: RegExp, more: Partial<FaultKind> = {}): FaultKind => ({
  name,
  fault: typeof fault === 'function' ? fault : () => fault,
  times: 'once',
  says,
  ...more,
});

const always = (kind: FaultKind): FaultKind => ({ ...kind, name: `${kind.name}, always`, times: 'always' });

/** The registry, or what stands in front of it, is away from a step's first request on. */
const away = (seconds: number, name: string, fault: Fault | (() => Fault), says: RegExp): FaultKind =>
  once(`away for ${seconds} s, ${name}`, fault, says, { outage: seconds });

/** Every request gets a connection of its own, so that the next ones find what has become of those opened early. */
const unusedDie = (name: string, unused: UnusedEnd): FaultKind =>
  once(`connections opened early ${name}`, slow({}), /./, { unused });

const reset = once('reset before it is taken', resetBefore, broken);
const silent = once('no answer, not taken', hang('before'), /no answer/, { hangs: true });
const large = once('413 (HTML, early)', tooLarge, /413 |one body may have \d+ bytes at most/);
const busy = once('429, Retry-After in seconds', tooMany(1), /429 /);
const failing = once('500', gatewayError(500), /500 /);

export const KINDS: readonly FaultKind[] = [
  reset,
  once('cut in the body', cutAfter(CUT_AT), broken, { needs: 'body' }),
  once('answer lost', dropAnswer, broken),
  once('answer cut', truncateAnswer(BEGINNING), broken),
  silent,
  once('no answer, taken', hang('after'), /no answer/, { hangs: true }),
  once('slow', slow({ bytesPerSecond: 4_000_000, answerAfter: 60 }), /./),
  unusedDie('end', 'end'),
  unusedDie('are reset', 'reset'),
  unusedDie('get a 408', '408'),
  large,
  once('416 with Location and Range', outOfRange(true), /416 /, { needs: 'session' }),
  once('416 bare', outOfRange(false), /416 /),
  busy,
  once('429, Retry-After as a date', () => tooMany(new Date(Date.now() + 2000)), /429 /),
  failing,
  once('502, taken', gatewayError(502, 'after'), /502 /),
  once('503', gatewayError(503), /503 /),
  once('504', gatewayError(504), /504 /),
  once('524, taken', gatewayError(524, 'after'), /524/),
  once('404', registryError(404, 'BLOB_UPLOAD_UNKNOWN', 'blob upload unknown'), /404 .*BLOB_UPLOAD_UNKNOWN/),
  once('401, token expired', expireToken, /401 /, { needs: 'credentials' }),
  once('403', registryError(403, 'DENIED', 'quota exceeded'), /403 .*DENIED: quota exceeded/),
  away(5, 'reset', resetBefore, broken),
  away(20, '502', gatewayError(502), /502 /),
  away(60, 'reset', resetBefore, broken),
  away(60, '503', gatewayError(503), /503 /),
  always(reset),
  always(silent),
  always(large),
  always(busy),
  always(failing),
];
