/** cloudflare/serverless-registry, a Worker in front of R2: one quirk for each of its ways, together the profile. */
import { type Answer, answer, hangUp, refusal, withHeaders } from '../answer.ts';
import type { Exchange } from '../exchange.ts';
import { inclusiveRange, type Quirk } from '../quirk.ts';
import type { Session } from '../session.ts';

/** Largest body that a Worker can hold in memory at all (bytes): the isolate's 128 MB. */
const WORKER_MEMORY = 128_000_000;

const internalError = (): Answer => refusal(500, 'INTERNAL_ERROR', 'internal error', null);

/** Point 1: the Location carries the state's hash, the lengths of chunks are told. */
export const announcesChunks = (minimum: number, maximum: number): Quirk => ({
  name: 'POST and GET of a session tell OCI-Chunk-Min-Length and OCI-Chunk-Max-Length',
  after: (given, exchange) => {
    const tells = given.status === 202 || given.status === 204;
    if (!tells || !/^upload-(post|mount|get)$/.test(exchange.route.step)) return given;
    return withHeaders(given, { 'OCI-Chunk-Min-Length': String(minimum), 'OCI-Chunk-Max-Length': String(maximum) });
  },
});

const locate = (session: Session): string =>
  `/v2/${session.repository}/blobs/uploads/${session.id}?_stateHash=${session.stamp.replaceAll('-', '')}`;

const spoken = (session: Session): string => `0-${session.size - 1}`;

function outOfState(session: Session): Answer {
  const message = `stateHash does not match state (upload id: ${session.id})`;
  const headers = { Location: locate(session), Range: spoken(session), 'Docker-Upload-UUID': session.id };
  return withHeaders(refusal(416, 'RANGE_ERROR', message), { ...headers, 'Content-Type': 'text/plain;charset=UTF-8' });
}

/** Points 1, 4, 5: the hash in the Location changes with each PATCH, an old one gets the right Location and Range; `0--1` is zero. */
export const hashesState: Quirk = {
  name: 'only the newest _stateHash is good',
  habits: {
    location: locate,
    range: (size, exchange) =>
      /^upload-(post|mount)$/.test(exchange.route.step) ? inclusiveRange(size) : `0-${size - 1}`,
  },
  chunk: (exchange, session) => {
    const hash = exchange.query.get('_stateHash');
    if (hash === null) return internalError();
    return hash === session.stamp.replaceAll('-', '') ? undefined : outOfState(session);
  },
};

/** Points 2 and 3: chunks of one size, at least the minimum, only the last one smaller. */
export const wantsEqualChunks = (minimum: number): Quirk => ({
  name: 'a growing chunk or an equal small one gets 416, a second shrinking one spoils the close',
  habits: { checksContentRange: false },
  chunk: (exchange, session) => {
    if (exchange.route.step !== 'upload-patch') return undefined;
    const length = exchange.length ?? 0;
    return misplaced(exchange, session) || !follows(length, session.parts, minimum) ? outOfState(session) : undefined;
  },
  close: (_exchange, session) => {
    const [first = 0] = session.parts;
    const last = session.parts.at(-1) ?? 0;
    const fits = session.parts.slice(0, -1).every((part) => part === first && part >= minimum) && last <= first;
    if (session.parts.length === 0 || fits) return undefined;
    session.fate = 'dead';
    return internalError();
  },
});

/** Numbers as JavaScript reads them: `bytes 0` is none, and a chunk of one byte has no end beyond its start. */
function misplaced(exchange: Exchange, session: Session): boolean {
  const [start, end] = exchange.headers['content-range']?.split('-') ?? [];
  if (start === undefined || end === undefined) return false;
  return Number(start) !== session.size || session.size >= Number(end) || !(Number(start) < Number(end));
}

/** Whether a chunk may come after those that were taken. */
function follows(length: number, parts: readonly number[], minimum: number): boolean {
  const last = parts.at(-1);
  if (last === undefined) return true;
  const wasWhole = parts.every((part) => part === parts[0]) && last >= minimum;
  if (last === length && wasWhole) return true;
  return last > length || (length < minimum && wasWhole);
}

/** Point 3: without Content-Length the body is held in memory, and a large one is the Worker's end. */
export const holdsUnsizedBodies: Quirk = {
  name: 'a PATCH without Content-Length that is larger than the memory hangs up',
  after: (given, exchange) => (exchange.unsized && exchange.record.bytes > WORKER_MEMORY ? hangUp : given),
};

/** Point 4: a PATCH that breaks off changes nothing. */
export const undoesBrokenChunks: Quirk = {
  name: 'a cut PATCH changes nothing',
  habits: { afterBreak: 'undone', brokenSession: 'open' },
};

/** Points 6 and 10: what the close does not do, and how it fails. The PUT copies the object, which R2 does up to a size. */
export const closesBadly = (largest: number): Quirk => ({
  name: 'the body of a PUT after a PATCH is ignored; a wrong digest kills the session with 500',
  habits: {
    takesLastChunkInPut: false,
    takesPostDigest: false,
    unknownSession: (exchange) => (/^(PATCH|PUT)$/.test(exchange.method) ? internalError() : answer(404)),
    wrongDigest: async (session) => {
      session.fate = 'dead';
      return internalError();
    },
  },
  close: (_exchange, session) => (session.size > largest ? internalError() : undefined),
});

/** Point 7: manifests. */
export const checksManifestsItsWay: Quirk = {
  name: 'mediaType is wanted, BLOB_UNKNOWN names the digest in its message, a wrong digest in the path is no matter',
  habits: {
    wantsMediaType: true,
    checksManifestDigest: false,
    unknownBlobs: (digests) => refusal(400, 'BLOB_UNKNOWN', `unknown blob ${digests[0]}`, {}),
  },
};

/** Point 8: the scheme is compared letter by letter, the realm is the URL. */
export const wantsExactlyBasic: Quirk = {
  name: 'the scheme is Basic, not basic',
  habits: {
    foldsSchemeCase: false,
    basicChallenge: (exchange) => `Basic realm="${exchange.origin}${exchange.path}"`,
  },
};

/** Point 9: a mount is a small object with a link in it, and HEAD tells about that object. */
export const showsMountsAsLinks: Quirk = {
  name: 'HEAD of a mounted blob shows the size and digest of the link',
  after: (given, exchange, { store }) => {
    const { step, repository, reference } = exchange.route;
    const from = store.repositories.get(repository)?.mounted.get(reference);
    if (step !== 'blob-head' || given.status !== 200 || from === undefined) return given;
    const link = `${from}/blobs/${reference}`;
    const digest = `sha256:${'0'.repeat(56)}${link.length.toString(16).padStart(8, '0')}`;
    return withHeaders(given, { 'Content-Length': String(link.length), 'Docker-Content-Digest': digest });
  },
};

/** Point 9: with a fallback registry, HEAD says 200 for what only that one has. */
export const looksInFallback: Quirk = {
  name: 'HEAD and GET find blobs of the fallback registry that a manifest may not use',
  after: (given, exchange, { fallback }) => {
    const { step, reference } = exchange.route;
    const found = /^blob-(head|get)$/.test(step) && given.status === 404 ? fallback.get(reference) : undefined;
    if (found === undefined) return given;
    const headers = { 'Docker-Content-Digest': reference, 'Content-Length': String(found.length) };
    return { status: 200, headers, body: found };
  },
};
