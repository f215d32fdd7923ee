/**
 * Blobs of a repository that are asked for and read. distribution-spec, "Checking if content exists" and "Pulling
 * blobs".
 */
import { Readable } from 'node:stream';
import { type Digest, digestOf } from '../oci/types.ts';
import { ask, fetchAndRead, noRegistry, type Place, tellsAbsence } from './host/context.ts';
import { Patience } from './host/patience.ts';
import { defaultTimeouts } from './http/deadline.ts';
import { errorOf, isPage, RegistryError } from './http/error.ts';
import type { RegistryResponse } from './http/response.ts';

export type BlobState =
  | { readonly state: 'present'; readonly size?: number }
  | { readonly state: 'absent' }
  /** The registry does not say: push-only credentials (403), no HEAD (405). */
  | { readonly state: 'unknown' };

/** Answers 200 to HEAD are 'present', 404 is 'absent', anything else but 401 'unknown'. Throws RegistryError. */
export async function headBlob(place: Place, digest: Digest, signal: AbortSignal): Promise<BlobState> {
  const step = 'looking for a blob';
  const response = await ask(place, 'HEAD', `blobs/${digest}`, { signal, step });
  await response.discard();
  if (response.status === 404) return { state: 'absent' };
  if (response.status === 401) throw await errorOf(response, { method: 'HEAD', step, remedy: response.remedy });
  if (response.status !== 200) return { state: 'unknown' };
  await assertMeant(place, response, signal);
  const size = sizeIn(response, digest);
  return size === undefined ? { state: 'present' } : { state: 'present', size };
}

/**
 * Throws RegistryError for a host that answers 200 to everything. One that names the digest, or another host's storage,
 * knows blobs.
 */
async function assertMeant(place: Place, response: RegistryResponse, signal: AbortSignal): Promise<void> {
  const { context, scopes } = place;
  const { headers, url } = response;
  if (headers['docker-content-digest'] !== undefined || url.origin !== context.transport.origin.origin) return;
  const step = 'looking for a blob';
  const isMeant =
    !isPage(response) &&
    (await tellsAbsence(context, async (digest) => {
      const request = { method: 'HEAD', url: place.url(`blobs/${digest}`), scopes, signal, step };
      const answer = await context.transport.send(request);
      await answer.discard();
      return answer.status;
    }));
  if (!isMeant) throw noRegistry(response, place, step, 'answers 200 to every request, as a web page does');
}

/** serverless-registry describes a mounted blob as the link that it keeps in its place: other digest, other size. */
function sizeIn({ headers }: RegistryResponse, digest: Digest): number | undefined {
  const named = headers['docker-content-digest'];
  return named !== undefined && named !== digest ? undefined : byteCount(headers['content-length']);
}

const byteCount = (text: string | undefined): number | undefined =>
  text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;

interface FetchOptions {
  readonly maxBytes: number;
  readonly signal: AbortSignal;
}

/**
 * The bytes of a blob that hash to its digest; undefined for 404. Throws RegistryError, also for other or more bytes.
 */
export async function fetchBlob(place: Place, digest: Digest, options: FetchOptions): Promise<Buffer | undefined> {
  const step = 'reading a blob';
  return fetchAndRead(place, `blobs/${digest}`, { signal: options.signal, step }, async (response) => {
    if (response.status === 404) {
      await response.discard();
      return undefined;
    }
    if (response.status !== 200) throw await errorOf(response, { method: 'GET', step, remedy: response.remedy });
    const bytes = await response.bytes(options.maxBytes);
    if (digestOf(bytes) !== digest) throw otherBytes(response, digest, bytes, step);
    return bytes;
  });
}

/** The error for an answer whose bytes are not those of the digest. */
export function otherBytes(response: RegistryResponse, digest: string, bytes: Buffer, step: string): RegistryError {
  const reason = `${bytes.length} bytes with the digest ${digestOf(bytes)} came in place of ${digest}`;
  return protocolError(response, reason, step);
}

const protocolError = ({ method, url }: RegistryResponse, reason: string, step: string): RegistryError =>
  new RegistryError({ kind: 'protocol', method, url, reason, step, temporary: false });

/** Which bytes of a blob: [start, end), to its end where `end` is left out. */
export interface BlobRange {
  readonly start?: number | undefined;
  readonly end?: number | undefined;
}

/** The bytes of a blob as they come. Not verified: the reader has the digest of the complete blob. */
export interface BlobStream {
  /** Ends after the last byte of the range; fails with RegistryError or UploadError. Destroy it to end the request. */
  readonly stream: Readable;
  /**
   * Whether the host answers ranges: if not, each interrupted read starts at byte 0, and its first bytes are dropped
   * here.
   */
  readonly ranges: boolean;
  /** Bytes of the complete blob; undefined when the host does not say. */
  readonly size: number | undefined;
}

const STEP = 'reading a blob';

/**
 * Reads a range of a blob. Resolves with the head of the first answer; undefined for 404. A read that breaks goes on
 * where it broke (Range, RFC 9110 section 14). Redirects to a storage are followed without credentials. Throws
 * RegistryError.
 */
export async function readBlob(
  place: Place,
  digest: Digest,
  range: BlobRange,
  signal: AbortSignal,
): Promise<BlobStream | undefined> {
  const reading = new Reading(place, digest, range, signal);
  const first = await reading.open();
  if (first === undefined) return undefined;
  const stream = Readable.from(reading.bytes(first), { objectMode: false, highWaterMark: 64 * 1024 });
  // A stream that is never read must not keep its connection, and its failure is for its reader.
  stream.once('close', () => first.response.abandon());
  return { stream, ranges: first.response.status === 206, size: first.size };
}

interface Opened {
  readonly response: RegistryResponse;
  /** The offset in the blob of the first byte of the body. */
  readonly offset: number;
  /** The offset in the blob after the last byte of the body, where the answer says it. */
  readonly end: number | undefined;
  readonly size: number | undefined;
}

class Reading {
  readonly #place: Place;
  readonly #digest: Digest;
  readonly #signal: AbortSignal;
  #position: number;
  #end: number | undefined;

  constructor(place: Place, digest: Digest, { start = 0, end }: BlobRange, signal: AbortSignal) {
    this.#place = place;
    this.#digest = digest;
    this.#signal = signal;
    this.#position = start;
    this.#end = end;
  }

  /** Asks for what is still to come. Undefined for 404. */
  async open(): Promise<Opened | undefined> {
    const last = this.#end === undefined ? '' : this.#end - 1;
    const response = await ask(this.#place, 'GET', `blobs/${this.#digest}`, {
      signal: this.#signal,
      step: STEP,
      headers: { range: `bytes=${this.#position}-${last}`, 'accept-encoding': 'identity' },
      timeouts: { total: defaultTimeouts((this.#end ?? UNKNOWN_SIZE) - this.#position).total },
    });
    if (response.status === 404) {
      await response.discard();
      return undefined;
    }
    if (response.status === 206) return this.#partial(response);
    if (response.status === 200) return this.#complete(response);
    throw await errorOf(response, { method: 'GET', step: STEP, remedy: response.remedy });
  }

  /** The bytes from the current position to the end, over as many answers as it takes. */
  async *bytes(first: Opened): AsyncGenerator<Buffer> {
    let opened = first;
    const task = { label: `blob ${this.#digest}`, signal: this.#signal };
    const patience = new Patience(this.#place.context, task);
    for (;;) {
      const before = this.#position;
      const error = yield* this.#answer(opened);
      if (error === undefined) return;
      if (this.#position > before) patience.progress();
      // A host may answer with less than the range that was asked for (RFC 9110, section 15.3.7): the rest comes next.
      const isPart = this.#position > before && this.#position === opened.end;
      if (!isPart) await patience.failed(error);
      const next = await this.open();
      if (next === undefined) throw protocolError(opened.response, 'the blob is gone', STEP);
      opened = next;
    }
  }

  /** The bytes of one answer. Returns undefined at the end of the range, else the temporary error that it ended in. */
  async *#answer({ response, offset }: Opened): AsyncGenerator<Buffer, RegistryError | undefined> {
    const end = this.#end ?? Number.POSITIVE_INFINITY;
    let at = offset;
    try {
      while (this.#position < end) {
        const chunk = await response.read();
        if (chunk === undefined) break;
        const wanted = chunk.subarray(Math.max(0, this.#position - at), Math.max(0, end - at));
        at += chunk.length;
        this.#position += wanted.length;
        if (wanted.length > 0) yield wanted;
      }
    } catch (error) {
      if (error instanceof RegistryError && error.temporary) return error;
      throw error;
    } finally {
      response.abandon();
    }
    if (this.#position >= end || this.#end === undefined) return undefined;
    return new RegistryError({
      kind: 'reset',
      method: response.method,
      url: response.url,
      step: STEP,
      reason: `the answer ended ${end - this.#position} bytes early`,
      temporary: true,
    });
  }

  #partial(response: RegistryResponse): Opened {
    const match = /^\s*bytes\s+(\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)\s*$/i.exec(response.headers['content-range'] ?? '');
    if (match === null || Number(match[1]) !== this.#position) {
      response.abandon();
      const named = response.headers['content-range'] ?? 'absent';
      throw protocolError(response, `bytes from ${this.#position} were asked for, its Content-Range is ${named}`, STEP);
    }
    return this.#opened(response, this.#position, { size: byteCount(match[3]), end: Number(match[2]) + 1 });
  }

  /** The host knows no ranges, or has sent all that was asked for anyway. */
  #complete(response: RegistryResponse): Opened {
    const size = byteCount(response.headers['content-length']);
    return this.#opened(response, 0, { size, end: size });
  }

  #opened(response: RegistryResponse, offset: number, { size, end }: Pick<Opened, 'size' | 'end'>): Opened {
    this.#end ??= size;
    if (this.#end !== undefined && size !== undefined) this.#end = Math.min(this.#end, size);
    return { response, offset, size, end };
  }
}

/**
 * For the time that a read may take before its size is known: the largest layer that registries commonly take, 10 GiB.
 */
const UNKNOWN_SIZE = 10 * 2 ** 30;
