/**
 * What an upload's `Range` header says that the registry holds. distribution-spec, section "Pushing a blob in chunks":
 * `0-<end>`, the end inclusive. Registries have more forms than the specification.
 */

/** The header as it was written. */
export interface StoredRange {
  /** The last byte that is stored, counted from 0; -1 (serverless-registry's `0--1`) for none. */
  readonly end: number;
  /** `bytes=0-N` or `bytes 0-N`. */
  readonly prefixed: boolean;
}

const FORM = /^\s*(bytes\s*[=\s]\s*)?0\s*-\s*(-1|\d{1,15})\s*$/i;

/** Reads a `Range` header; undefined when it is absent or says nothing that can be understood. */
export function parseRange(header: string | undefined): StoredRange | undefined {
  const match = FORM.exec(header ?? '');
  if (match === null) return undefined;
  return { end: Number(match[2]), prefixed: match[1] !== undefined };
}

/** What we know when a `Range` comes: it lies between the bytes known to be stored and the bytes that were sent, if all is well. */
export interface Expected {
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
