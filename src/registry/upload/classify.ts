/**
 * What an answer means to an upload: pure functions from the answer to one of a few verdicts. This is where registries
 * differ; the steps that follow from a verdict are the same for all. Each rule names the registry that made it
 * necessary.
 */
import type { ByteRange } from '../../blob/blob.ts';
import { isTransientStatus, type RegistryError } from '../http/error.ts';

/** An answer, its body read when it is not a success. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** The answer as an error; undefined for 2xx. */
  readonly error: RegistryError | undefined;
}

type PatchVerdict =
  /** The chunk is in the registry: go on behind it. */
  | { readonly is: 'stored' }
  /** ECR: 201, and a Range that did not move although the bytes may be there. */
  | { readonly is: 'stalled' }
  /** Refused, with the offset that is right; undefined when it can't be read. */
  | { readonly is: 'corrected'; readonly bytes: number | undefined }
  /** It is not known what was stored: the registry has to be asked. */
  | { readonly is: 'doubtful' }
  /** The session is gone or broken. */
  | { readonly is: 'lost' }
  /** Refused for its size. */
  | { readonly is: 'too-large' }
  /** The registry takes no chunks, as it seems. */
  | { readonly is: 'no-chunks' }
  /** No other try can change it. */
  | { readonly is: 'final' };

type CloseVerdict =
  | { readonly is: 'closed' }
  /** Not now, and certainly nothing was done: the same request again. */
  | { readonly is: 'busy' }
  /** The blob may be there or not: only a HEAD tells. */
  | { readonly is: 'doubtful' }
  /** The registry read other bytes than those of the digest: they were stored wrongly. */
  | { readonly is: 'corrupt' }
  /** An empty closing request is not taken (ECR, once): the last chunk has to come with it. */
  | { readonly is: 'wants-body' }
  | { readonly is: 'too-large' }
  | { readonly is: 'final' };

/** Answers about who is asking: a new token was tried before. 407 is a proxy's 401. */
const REFUSED: ReadonlySet<number> = new Set([401, 403, 407]);

/** Codes under which no request of this upload can succeed. distribution-spec, section Error Codes. */
const HOPELESS_CODES = ['NAME_INVALID', 'NAME_UNKNOWN', 'DENIED', 'UNAUTHORIZED'] as const;

/** Codes of a session that does not go on, under whatever status. */
const LOST_CODES = ['BLOB_UPLOAD_UNKNOWN', 'BLOB_UPLOAD_INVALID'] as const;

/** The bytes that arrived are not those that the digest or length names. */
const CORRUPT_CODES = ['DIGEST_INVALID', 'SIZE_INVALID'] as const;

const succeeded = (status: number): boolean => status >= 200 && status < 300;

/** By its status, or by the registry's own code (TOOMANYREQUESTS comes with other statuses too). */
const isTransient = ({ status, error }: Answer): boolean => isTransientStatus(status) || error?.temporary === true;

const hasAny = (error: RegistryError | undefined, codes: readonly string[]): boolean =>
  error !== undefined && codes.some((code) => error.has(code));

/** 413 in any form (HTML too); GHCR says 416 and "exceeds the maximum permissible limit". */
export function refusesSize({ status, error }: Pick<Answer, 'status' | 'error'>): boolean {
  if (status === 413) return true;
  return (
    (status === 416 || status === 400) &&
    /too large|exceeds the (maximum|limit)|entity larger/i.test(error?.message ?? '')
  );
}

/** What an answer to a PATCH means. `takesChunks`: whether this host has taken a chunk before. */
export function judgePatch(answer: Answer, range: ByteRange, takesChunks: boolean): PatchVerdict {
  if (succeeded(answer.status)) return judgeStored(answer, range);
  if (refusesSize(answer)) return { is: 'too-large' };
  if (isTransient(answer)) return { is: 'doubtful' };
  if (REFUSED.has(answer.status) || hasAny(answer.error, HOPELESS_CODES)) return { is: 'final' };
  if (answer.status < 400) return { is: 'final' };
  const { location, range: stored } = answer.headers;
  if (location !== undefined && stored !== undefined) return { is: 'corrected', bytes: storedOf(answer, range) };
  if (answer.status === 416) return { is: 'doubtful' };
  if (answer.status === 405 || answer.status === 501) return { is: 'no-chunks' };
  if (answer.status === 404 || hasAny(answer.error, LOST_CODES)) return { is: 'lost' };
  if (answer.status === 400) return { is: takesChunks ? 'lost' : 'no-chunks' };
  return { is: 'doubtful' };
}

function judgeStored(answer: Answer, range: ByteRange): PatchVerdict {
  const stored = storedBytes(answer.headers.range, {
    confirmed: range.end,
    sent: range.end,
    located: answer.headers.location !== undefined,
  });
  if (stored === undefined || stored === range.end) return { is: 'stored' };
  return { is: answer.status === 201 && stored <= range.start ? 'stalled' : 'doubtful' };
}

/** The number of bytes that an answer to a status question or a refusal names. */
export const storedOf = (answer: Answer, range: ByteRange): number | undefined =>
  storedBytes(answer.headers.range, {
    confirmed: range.start,
    sent: range.end,
    located: answer.headers.location !== undefined,
  });

/** What an answer to the closing PUT means. `bodyBytes`: the length of its body. */
export function judgeClose(answer: Answer, bodyBytes: number): CloseVerdict {
  if (succeeded(answer.status)) return { is: 'closed' };
  if (bodyBytes > 0 && refusesSize(answer)) return { is: 'too-large' };
  if (answer.status === 429 || answer.error?.kind === 'limited') return { is: 'busy' };
  if (hasAny(answer.error, CORRUPT_CODES)) return { is: 'corrupt' };
  if (isTransient(answer)) return { is: 'doubtful' };
  if (REFUSED.has(answer.status) || hasAny(answer.error, HOPELESS_CODES)) return { is: 'final' };
  const unknown = hasAny(answer.error, ['BLOB_UPLOAD_UNKNOWN']);
  if (bodyBytes === 0 && (answer.status === 400 || answer.status === 411) && !unknown) return { is: 'wants-body' };
  if (hasAny(answer.error, LOST_CODES)) return { is: 'doubtful' };
  return { is: [404, 409, 410, 416].includes(answer.status) ? 'doubtful' : 'final' };
}

// What an upload's `Range` header says that the registry holds. distribution-spec, section "Pushing a blob in
// chunks": `0-<end>`, the end inclusive. Registries have more forms than the specification.

/** The header as it was written. */
interface StoredRange {
  /** The last byte that is stored, counted from 0; -1 (serverless-registry's `0--1`) for none. */
  readonly end: number;
  /** `bytes=0-N` or `bytes 0-N`. */
  readonly prefixed: boolean;
}

const RANGE = /^\s*(bytes\s*[=\s]\s*)?0\s*-\s*(-1|\d{1,15})\s*$/i;

/** Reads a `Range` header; undefined when it is absent or says nothing that can be understood. */
export function parseRange(header: string | undefined): StoredRange | undefined {
  const match = RANGE.exec(header ?? '');
  if (match === null) return undefined;
  return { end: Number(match[2]), prefixed: match[1] !== undefined };
}

/**
 * What we know when a `Range` comes: it lies between the bytes known to be stored and the bytes that were sent, if all
 * is well.
 */
interface Expected {
  readonly confirmed: number;
  readonly sent: number;
  /** Whether the answer names a Location: Quay's status answer is the one that counts wrong, and it names none. */
  readonly located: boolean;
}

/**
 * The number of bytes that a registry says it holds; undefined when it does not say.
 * - `0-0` is one byte by the specification, but none or one on distribution and on a fresh serverless-registry session.
 * - Quay's status says `bytes=0-N` with N one too many (quay endpoints/v2/blob.py, "byte ranges are exclusive").
 */
export function storedBytes(header: string | undefined, expected: Expected): number | undefined {
  const range = parseRange(header);
  if (range === undefined) return undefined;
  if (range.prefixed && !expected.located) return range.end;
  if (range.end === 0) return Math.min(expected.confirmed, 1);
  return range.end + 1;
}
