/** An answer of a registry, its body still on the way. It must be read or discarded, else its connection is lost. */

import type { Dispatcher } from 'undici';
import { oneLine } from '../../common/printable.ts';
import { RegistryError, type ResponseHeaders } from './error.ts';
import { withoutText } from './error-body.ts';
import { brokenOff } from './network-error.ts';

/** Documents of registries are small: manifests are limited to 4 MiB by the specification. */
const LONGEST_TEXT_BYTES = 4 * 1024 * 1024;

/** Reading this much of an unwanted body is cheaper than another connection. */
const WORTH_READING_BYTES = 64 * 1024;

interface ResponseInit {
  readonly method: string;
  readonly url: URL;
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: AnswerBody;
  readonly step?: string | undefined;
  /** The request's own: what they end is cancelled, not broken. */
  readonly signals: readonly AbortSignal[];
  /** Cuts known secrets out of a text. */
  readonly mask: (text: string) => string;
  /** What to do about a 401 or 403, as far as the transport knows. */
  remedy?(): string | undefined;
  /**
   * How much of the body may be shown: a registry that names another host must not have us print what that answers,
   * which may be a service that only this machine can reach. Default: all.
   */
  readonly shown?: 'all' | 'codes' | undefined;
}

export class RegistryResponse {
  readonly method: string;
  /** Where the answer came from, after redirects: Locations are relative to it. */
  readonly url: URL;
  readonly status: number;
  /** Names in lower case, the first value of each. */
  readonly headers: ResponseHeaders;
  readonly #init: ResponseInit;

  constructor(init: ResponseInit) {
    this.#init = init;
    this.method = init.method;
    this.url = init.url;
    this.status = init.status;
    this.headers = firstValues(init.headers);
  }

  /** What to do about the answer, as far as the transport knows. */
  get remedy(): string | undefined {
    return this.#init.remedy?.();
  }

  /** Every value of a header that may come several times (`set-cookie`, `www-authenticate`, `warning`). */
  getAll(name: string): readonly string[] {
    const value = this.#init.headers[name.toLowerCase()];
    return value === undefined ? [] : typeof value === 'string' ? [value] : value;
  }

  /**
   * The body, at most `limit` bytes of it. Throws RegistryError: `protocol` when it is longer, network kinds when it
   * breaks off.
   */
  async bytes(limit: number): Promise<Buffer> {
    const { body, signals } = this.#init;
    await body.until(limit);
    if (body.failure !== undefined) throw brokenOff(body.failure, this.#init, signals);
    if (body.length > limit) {
      body.letGo();
      throw this.#error(`the answer is longer than ${limit} bytes`);
    }
    return body.first(body.length);
  }

  /** The next bytes of a body of any length; undefined at its end. Throws RegistryError when it breaks off. */
  async read(): Promise<Buffer | undefined> {
    const { body, signals } = this.#init;
    const chunk = await body.next();
    if (chunk === undefined && body.failure !== undefined) throw brokenOff(body.failure, this.#init, signals);
    return chunk;
  }

  /** Ends the answer, and its connection where more of the body is to come. */
  abandon(): void {
    this.#init.body.letGo();
  }

  /** The body as UTF-8. Throws as `bytes` does. */
  async text(limit = LONGEST_TEXT_BYTES): Promise<string> {
    return (await this.bytes(limit)).toString('utf8');
  }

  /**
   * The first `limit` bytes of the body as text without known secrets, as far as they may be shown: what came, also
   * when it breaks off. Never rejects.
   */
  async excerpt(limit: number): Promise<string> {
    await this.discard();
    const { body, mask, shown } = this.#init;
    if (shown !== 'codes') return mask(body.first(limit).toString('utf8'));
    return withoutText(body.first(WORTH_READING_BYTES).toString('utf8')).slice(0, limit);
  }

  /** Lets the body go, and keeps the connection when that is cheap. Never rejects. */
  async discard(): Promise<void> {
    const { body } = this.#init;
    await body.until(WORTH_READING_BYTES);
    body.letGo();
  }

  #error(reason: string): RegistryError {
    const { method, url, status, step } = this.#init;
    return new RegistryError({ kind: 'protocol', method, url, status, step, reason, temporary: false });
  }
}

function firstValues(headers: ResponseInit['headers']): ResponseHeaders {
  const first: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    const one = typeof value === 'string' ? value : value?.[0];
    if (one !== undefined) first[name.toLowerCase()] = one;
  }
  return first;
}

// The body of an answer while it comes. Answers are small documents: what came is kept until it is read, and a stream
// is not needed.

/** This much may come before it is read. */
const UNREAD_BYTES = 64 * 1024;

/** What holds the body back, and what ends it. */
type Flow = Pick<Dispatcher.DispatchController, 'pause' | 'resume' | 'abort'>;

/** The bytes that have come. `take`, `end` and `fail` are for the connection, all else is for the reader. */
export class AnswerBody {
  readonly #flow: Flow;
  readonly #chunks: Buffer[] = [];
  #length = 0;
  /** With more than this the body is held back. */
  #wanted = UNREAD_BYTES;
  #isOver = false;
  #failure: unknown;
  /** Of the reader that waits for more. */
  #arrival: PromiseWithResolvers<void> | undefined;

  constructor(flow: Flow) {
    this.#flow = flow;
  }

  /** How many bytes have come. */
  get length(): number {
    return this.#length;
  }

  /** What ended the body before its end; undefined while it comes, and when it came to its end. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Resolves when more than `bytes` bytes have come, or when no more will: complete or not. Never rejects. */
  async until(bytes: number): Promise<void> {
    while (!this.#isOver && this.#length <= bytes) {
      this.#wanted = bytes;
      this.#arrival ??= Promise.withResolvers();
      const { promise } = this.#arrival;
      // What the connection has read before may come within this very call.
      this.#flow.resume();
      await promise;
    }
  }

  /** Takes out what has come, and waits for it where nothing has; undefined when no more will come. Never rejects. */
  async next(): Promise<Buffer | undefined> {
    await this.until(0);
    if (this.#length === 0) return undefined;
    this.#length = 0;
    return Buffer.concat(this.#chunks.splice(0));
  }

  /** The first `bytes` of the bytes that have come. */
  first(bytes: number): Buffer {
    return Buffer.concat(this.#chunks, Math.min(bytes, this.#length));
  }

  /** Ends a body of which more is to come, and its connection. */
  letGo(): void {
    if (!this.#isOver) this.#flow.abort(new Error('the rest of the answer was not wanted'));
  }

  /** A part of the body has come. */
  take(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    if (this.#length <= this.#wanted) return;
    this.#flow.pause();
    this.#wake();
  }

  /** The body is complete. */
  end(): void {
    this.#isOver = true;
    this.#wake();
  }

  /** No more will come, and some is missing. */
  fail(error: unknown): void {
    this.#failure = error;
    this.end();
  }

  #wake(): void {
    this.#arrival?.resolve();
    this.#arrival = undefined;
  }
}

/**
 * `Warning: 299 - "text"`, which a registry may send with any answer. distribution-spec, section Warnings; RFC 7234,
 * 5.5.
 */
const WARNING = /(?:^|,)\s*299\s+\S+\s+"((?:[^"\\]|\\.)*)"/g;

/** More than the specification allows for one warning is not shown in full. */
const LONGEST_CHARACTERS = 255;

/** The texts of the warnings in these header values, each in one line without control characters. */
export function warningTexts(headers: readonly string[]): string[] {
  return headers.flatMap((header) =>
    [...header.matchAll(WARNING)].map((match) => oneLine((match[1] ?? '').replace(/\\(.)/g, '$1'), LONGEST_CHARACTERS)),
  );
}

/** What an answer announces by OCI-Chunk-Min-Length and OCI-Chunk-Max-Length, bytes. */
export const announcedLengths = (headers: ResponseHeaders): Readonly<Record<'min' | 'max', number | undefined>> => ({
  min: length(headers['oci-chunk-min-length']),
  max: length(headers['oci-chunk-max-length']),
});

/** A header's number of bytes; undefined for anything that is not a positive integer. */
function length(header: string | undefined): number | undefined {
  if (header === undefined || !/^\s*\d{1,15}\s*$/.test(header)) return undefined;
  return Number(header) > 0 ? Number(header) : undefined;
}
