/**
 * How large a request's body may be on the way to a registry, found by a few requests. Pure but for the requests, which
 * the caller makes.
 */

import { DEFAULT_CHUNK_SIZE } from '../blob/blob.ts';
import { SMALLEST_LIMIT } from './host/capabilities.ts';
import type { RegistryError } from './http/error.ts';
import { refusesSize } from './upload/classify.ts';

/** What becomes of a chunk of some size, sent to an upload that the registry does not know. */
export type Fate =
  /** The other side reads on: it has no objection to the headers. */
  | { readonly is: 'read' }
  | { readonly is: 'answered'; readonly status: number; readonly error: RegistryError | undefined }
  | { readonly is: 'broken'; readonly reason: string };

export interface BodyLimit {
  /** The largest of the sizes tried that is not refused, bytes; undefined when all of them are. */
  readonly largest: number | undefined;
  /** The smallest that is refused, with the text of the refusal. */
  readonly refused: { readonly bytes: number; readonly reason: string } | undefined;
}

/** Announces a body of so many bytes and sends its first byte, or all of it (`isSent`). Resolves to its fate. */
export type Attempt = (bytes: number, isSent: boolean) => Promise<Fate>;

const MIB = 2 ** 20;

/** Common limits of proxies and registries, with what lies between them. Bytes. */
const SIZES = [
  ...[SMALLEST_LIMIT, 256 * 1024, 512 * 1024, 1 * MIB, 2 * MIB, 4 * MIB, 5 * MIB, 8 * MIB, 10 * MIB, 16 * MIB],
  ...[20 * MIB, 32 * MIB, 50 * MIB, 64 * MIB, DEFAULT_CHUNK_SIZE, 100_000_000, 100 * MIB, 200 * MIB],
  ...[500_000_000, 512 * MIB, 1024 * MIB],
];

/** The most that is really sent at once, where a body is read before it is judged. Bytes. */
const LARGEST_SENT = 16 * MIB;

/**
 * Finds the limit. Most limits refuse a request by its headers, so that bodies are announced only. A server that reads
 * on and refuses later (Envoy's buffer filter, gateways that collect a body first) is found where it stands in front
 * of the registry and its limit is under LARGEST_SENT: there bodies are sent. `most`: what the registry announces,
 * bytes. Rejects as `attempt` does, and with the refusal of a host that limits the number of requests.
 */
export async function findBodyLimit(attempt: Attempt, most: number | undefined): Promise<BodyLimit> {
  const sizes = [...SIZES.filter((size) => size < (most ?? Number.POSITIVE_INFINITY)), ...(most ? [most] : [])];
  const usual = await attempt(SMALLEST_LIMIT, false);
  const announced = await bisect(sizes, (bytes) => refusal(attempt, bytes, { isSent: false, usual }));
  if (usual.is !== 'read') return announced;
  const sendable = sizes.filter((size) => size <= Math.min(announced.largest ?? 0, LARGEST_SENT));
  const sent = await bisect(sendable, (bytes) => refusal(attempt, bytes, { isSent: true, usual }));
  return sent.refused === undefined ? announced : sent;
}

/** The largest first: most servers have no limit among these. */
async function bisect(
  sizes: readonly number[],
  refusalOf: (bytes: number) => Promise<string | undefined>,
): Promise<BodyLimit> {
  let [low, high] = [-1, sizes.length];
  let refused: BodyLimit['refused'];
  for (let at = sizes.length - 1; high - low > 1; at = Math.floor((low + high) / 2)) {
    const bytes = sizes[at]!;
    const reason = await refusalOf(bytes);
    if (reason === undefined) low = at;
    else [high, refused] = [at, { bytes, reason }];
  }
  return { largest: sizes[low], refused };
}

/** Why a body of this size is refused; undefined when it is not. What might be an accident must happen twice. */
async function refusal(
  attempt: Attempt,
  bytes: number,
  { isSent, usual }: { isSent: boolean; usual: Fate },
): Promise<string | undefined> {
  const fate = await attempt(bytes, isSent);
  if (fate.is === 'answered' && refusesSize(fate)) return fate.error?.reason ?? String(fate.status);
  if (!isUnusual(fate, usual)) return undefined;
  const again = await attempt(bytes, isSent);
  return isUnusual(again, usual) ? reasonOf(again) : undefined;
}

/**
 * Whether this is not what a small body meets. An unknown upload is 404 (416 at some), by whoever and whenever it is
 * said, and a limit on the number of requests says nothing of their size.
 */
function isUnusual(fate: Fate, usual: Fate): boolean {
  if (fate.is === 'read') return false;
  if (fate.is === 'broken') return usual.is !== 'broken';
  if (fate.error?.kind === 'limited') throw fate.error;
  if (fate.status < 300 || [401, 404, 416].includes(fate.status)) return false;
  return usual.is !== 'answered' || usual.status !== fate.status;
}

const reasonOf = (fate: Fate): string =>
  fate.is === 'broken' ? fate.reason : fate.is === 'answered' ? (fate.error?.reason ?? String(fate.status)) : '';
