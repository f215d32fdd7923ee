/** Ways of upload sessions, each seen at one registry or another. */
import { type Answer, answer, hangUp, refusal, withHeaders } from '../answer.ts';
import type { Exchange } from '../exchange.ts';
import type { Quirk } from '../quirk.ts';

const invalid = (status: number, message: string): Answer => refusal(status, 'BLOB_UPLOAD_INVALID', message);

const isPatch = (exchange: Exchange): boolean => exchange.route.step === 'upload-patch';

const isOpening = (exchange: Exchange): boolean => /^upload-(post|mount)$/.test(exchange.route.step);

/** zot: an I/O error in a PATCH deletes the session. */
export const losesBrokenSessions: Quirk = {
  name: 'after a broken PATCH the session is unknown',
  habits: { brokenSession: 'gone' },
};

/** Gitea, Forgejo: what a broken PATCH left in the file no longer fits the books. */
export const poisonsBrokenSessions: Quirk = {
  name: 'after a broken PATCH every PATCH and PUT gets 500',
  habits: { afterBreak: 'undone', brokenSession: 'poisoned' },
};

/** Gitea: only the first PATCH may come without Content-Range. */
export const wantsRangeAfterFirst: Quirk = {
  name: 'a PATCH without Content-Range after the first gets 400',
  chunk: (exchange, session) => {
    if (!isPatch(exchange) || session.size === 0 || exchange.headers['content-range'] !== undefined) return undefined;
    return invalid(400, 'Stream uploads after first write are not allowed');
  },
};

/** zot: the status of an empty session ends at minus one. */
export const countsZeroAsMinusOne: Quirk = {
  name: 'GET of an empty session says 0--1',
  habits: { range: (size, exchange) => `0-${isOpening(exchange) ? Math.max(0, size - 1) : size - 1}` },
};

/** Quay: the status is `bytes=0-N` and one too many, without Location, a 416 one too many as well; a PATCH tells the right one. */
export const tellsRangesOfQuay: Quirk = {
  name: 'GET of a session says bytes=0-N, one too many, and no Location; so does 416, with Location',
  habits: {
    range: (size, exchange) => {
      if (exchange.route.step === 'upload-get') return `bytes=0-${size}`;
      return isOpening(exchange) ? `bytes=0-${size - 1}` : `0-${size - 1}`;
    },
  },
  after: (given, exchange, { store }) => {
    if (exchange.route.step === 'upload-get') return withHeaders(given, { Location: undefined });
    const size = store.sessions.get(exchange.route.reference)?.size ?? 0;
    return given.status === 416 && isPatch(exchange) ? withHeaders(given, { Range: `0-${size}` }) : given;
  },
};

/** ECR: Range stays at the first chunk's end though all data is kept, and a PATCH answers 201. */
export const tellsStickyRanges: Quirk = {
  name: 'PATCH answers 201 and Range sticks at the end of the first chunk',
  habits: { patchStatus: 201 },
  after: (given, exchange, { store }) => {
    const session = store.sessions.get(exchange.route.reference);
    const range = given.headers.Range;
    if (session === undefined || range === undefined || session.parts.length === 0) return given;
    session.told ??= range;
    return withHeaders(given, { Range: session.told });
  },
};

/** ECR: parts have a least and a largest size. The least does not hold for the last one, which comes in the PUT. */
export const limitsParts = (least: number, largest: number): Quirk => ({
  name: `a PATCH under ${least} or over ${largest} bytes is refused`,
  chunk: (exchange) => {
    const length = exchange.length ?? 0;
    if (!isPatch(exchange) || (length >= least && length <= largest)) return undefined;
    return invalid(400, `Layer part size ${length} is not between ${least} and ${largest} bytes`);
  },
});

/** ECR: a close without a body was once refused. */
export const wantsLastChunkInPut: Quirk = {
  name: 'an empty closing PUT is refused',
  chunk: (exchange, session) =>
    exchange.route.step === 'upload-put' && (exchange.length ?? 0) === 0 && session.size > 0
      ? invalid(400, 'the closing request has no body')
      : undefined,
};

/** ECR: there is no repository until somebody makes one. */
export const hangsUpOnUnknownRepositories = (known: readonly string[]): Quirk => ({
  name: 'a push to a repository that was not made is hung up on',
  before: (exchange) => (isOpening(exchange) && !known.includes(exchange.route.repository) ? hangUp : undefined),
});

/** Artifact Registry, GCR: no chunked upload. Their documents say so; the status is not told anywhere, 400 is ours. */
export const refusesPatches: Quirk = {
  name: 'a PATCH is refused',
  before: (exchange) =>
    isPatch(exchange) ? refusal(400, 'UNSUPPORTED', 'chunked uploads are not supported') : undefined,
};

/** ACR: lengths and raw ranges are wanted. */
export const wantsLengthsAndRawRanges: Quirk = {
  name: 'a PATCH without Content-Length gets 411, a Content-Range that is not a-b gets 400',
  before: (exchange) => {
    if (!isPatch(exchange)) return undefined;
    if (exchange.length === undefined) return answer(411);
    const range = exchange.headers['content-range'];
    if (range === undefined || /^\d+-\d+$/.test(range)) return undefined;
    const detail = { Range: range, Reason: 'the Content-Range header format is invalid' };
    return refusal(400, 'BLOB_UPLOAD_INVALID', 'blob upload invalid', detail);
  },
};

/** Harbor and others on S3 or R2: the store takes parts of one size, and says so at the close. */
export const wantsEqualParts: Quirk = {
  name: 'parts of unequal size fail at the close',
  close: (_exchange, session) => {
    const [first = 0] = session.parts;
    const fits = session.parts.slice(0, -1).every((part) => part === first) && (session.parts.at(-1) ?? 0) <= first;
    return fits ? undefined : refusal(500, 'UNKNOWN', 'InvalidPart: all non-trailing parts must have the same length');
  },
};

/** Several replicas without shared state: a session lives on one, and a cookie leads there. */
export function livesOnOneReplica(): Quirk {
  const homes = new Map<string, string>();
  let next = 0;
  return {
    name: 'a session is found only with the cookie of its replica',
    before: (exchange) => {
      const home = homes.get(exchange.route.reference);
      if (home === undefined || !/^upload-(get|patch|put|delete)$/.test(exchange.route.step)) return undefined;
      const cookies = (exchange.headers.cookie ?? '').split('; ');
      return cookies.includes(`replica=${home}`)
        ? undefined
        : refusal(404, 'BLOB_UPLOAD_UNKNOWN', 'blob upload unknown to registry');
    },
    after: (given, exchange) => {
      const id = given.headers['Docker-Upload-UUID'];
      if (!isOpening(exchange) || given.status !== 202 || id === undefined) return given;
      next += 1;
      homes.set(id, `r${next}`);
      return withHeaders(given, { 'Set-Cookie': `replica=r${next}; Path=/; HttpOnly` });
    },
  };
}

/** GHCR: a PUT that is repeated after it was through now and then takes the blob away (11 times of 51 in the thread). */
export function losesReplayedBlobs(every: number): Quirk {
  let replays = 0;
  return {
    name: `every ${every}th repeated PUT loses the blob`,
    before: async (exchange, { store }) => {
      const digest = exchange.route.step === 'upload-put' ? store.finished.get(exchange.route.reference) : undefined;
      if (digest === undefined) return undefined;
      replays += 1;
      if (replays % every === 0) await store.removeBlob(exchange.route.repository, digest);
      return refusal(404, 'BLOB_UPLOAD_UNKNOWN', 'blob upload unknown to registry');
    },
  };
}
