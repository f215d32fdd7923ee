/**
 * One open upload at the registry: where it goes on, how far it has come, its cookies. distribution-spec, section
 * "Pushing blobs".
 */
import type { ByteRange, ReadableBlob } from '../../blob/blob.ts';
import type { Digest } from '../../oci/types.ts';
import type { HostContext } from '../host/context.ts';
import type { RegistryRequest } from '../host/sender.ts';
import { defaultTimeouts, type Timeouts } from '../http/deadline.ts';
import { errorOf, RegistryError } from '../http/error.ts';
import type { RegistryResponse } from '../http/response.ts';
import type { Answer } from './classify.ts';
import type { UploadMetrics } from './metrics.ts';

/**
 * Servers read the complete blob again before they answer the closing PUT: distribution hashes it, serverless-registry
 * copies it. 10 MB/s is a slow network disk, and the slowest that is waited for.
 */
const CLOSING_BYTES_PER_MS = 10_000;

/** Bodies from this size on get connections of their own once connections broke. */
const LARGE_BYTES = 2 ** 20;

/** How long a session that is given up may take to be deleted. */
const CANCEL_MS = 5_000;

/** distribution 3 writes what has come of a broken chunk, and only then knows the upload's new state. */
const CANCEL_AGAIN_MS = 150;

/** Tries of a deletion for which there is no connection. */
const CANCEL_TRIES = 5;

interface SessionInit {
  readonly context: HostContext;
  readonly scopes: readonly string[];
  readonly location: URL;
  readonly cookies: CookieJar;
}

export class Session {
  /** Bytes that the registry is known to hold. */
  offset = 0;
  /** The end of the furthest byte that was ever sent in this session. */
  sent = 0;
  /** The size of its chunks but the last; undefined before the first. */
  chunkSize: number | undefined;
  /** Whether its chunks have had more than one size. */
  hasUnequalChunks = false;
  /** The bytes that the blob had room for at once when the first chunk went. */
  #most = Number.POSITIVE_INFINITY;
  /**
   * Since the last progress: answers 500; chunks that got 500 or a reset; offsets that can't be; refusals at the right
   * offset.
   */
  internalErrors = 0;
  setbacks = 0;
  contradictions = 0;
  refusals = 0;
  /** The end of a chunk that got a 201 without a Range that moved. */
  stalledAt: number | undefined;
  /** Whether the closing PUT was already sent a second time. */
  closedAgain = false;
  /** Whether even a large body goes over a connection that is kept: a new one could not be had. */
  takesAnyConnection = false;
  readonly #init: SessionInit;
  #location: URL;

  constructor(init: SessionInit) {
    this.#init = init;
    this.#location = init.location;
  }

  get location(): string {
    return this.#location.href;
  }

  /** The size of the next chunk; undefined before the first. */
  get nextChunk(): number | undefined {
    return this.chunkSize === undefined
      ? undefined
      : this.#init.context.host.nextChunk(this.chunkSize, this.#most, this.hasUnequalChunks);
  }

  /** Begins a chunk of at most `most` bytes: returns its size. Throws UploadError when the limits leave no size. */
  startChunk(most: number): number {
    const next = this.nextChunk;
    if (this.chunkSize === undefined || next === undefined) {
      this.#most = most;
      this.chunkSize = this.#init.context.host.chunkSize(most);
    } else {
      this.hasUnequalChunks ||= next !== this.chunkSize;
      this.chunkSize = next;
    }
    return this.chunkSize;
  }

  /** Notes that the registry holds this number of bytes. */
  confirm(bytes: number): void {
    this.offset = bytes;
    this.internalErrors = 0;
    this.setbacks = 0;
    this.contradictions = 0;
    this.refusals = 0;
    this.stalledAt = undefined;
  }

  /**
   * Sends one chunk. serverless-registry refuses the Content-Range of a single byte (`7-7`) as an empty range, Gitea
   * refuses a later chunk without one: so it is left out for one byte where chunk lengths are announced.
   */
  async patch(body: ReadableBlob, range: ByteRange, metrics: UploadMetrics, signal: AbortSignal): Promise<Answer> {
    const { start, end } = range;
    const isBare = end - start === 1 && (start === 0 || this.#init.context.host.announcesChunks);
    const contentRange = isBare ? {} : { 'content-range': `${start}-${end - 1}` };
    this.sent = Math.max(this.sent, end);
    return this.#exchange({
      method: 'PATCH',
      url: this.#location,
      headers: { 'content-type': 'application/octet-stream', ...contentRange },
      body: metrics.metered(body, range),
      freshConnection: this.#wantsFresh(range),
      signal,
      step: 'sending a chunk',
    });
  }

  /** Asks how far the upload has come. */
  status(signal: AbortSignal): Promise<Answer> {
    return this.#exchange({ method: 'GET', url: this.#location, signal, step: 'asking for the state of an upload' });
  }

  /** Closes the upload; `range` are the bytes that come with it, perhaps none, perhaps the complete blob. */
  async close(
    body: ReadableBlob,
    range: ByteRange,
    blob: { digest: Digest; size: number },
    metrics: UploadMetrics,
    signal: AbortSignal,
  ): Promise<Answer> {
    const { start, end } = range;
    const contentRange = start > 0 && end - start > 1 ? { 'content-range': `${start}-${end - 1}` } : {};
    this.sent = Math.max(this.sent, end);
    return this.#exchange({
      method: 'PUT',
      url: withDigest(this.#location, blob.digest),
      headers: { 'content-type': 'application/octet-stream', ...contentRange },
      body: metrics.metered(body, range),
      freshConnection: this.#wantsFresh(range),
      timeouts: closingTimeouts(end - start, blob.size),
      signal,
      step: 'closing an upload',
    });
  }

  /**
   * Deletes the upload. distribution 3 answers 416 to a Location that is not the newest (after a chunk that broke): it
   * names the newest in its answer to a status query. Never rejects: a registry clears away forgotten uploads by itself
   * some day.
   */
  async cancel(signal: AbortSignal = AbortSignal.timeout(CANCEL_MS)): Promise<void> {
    const { clock } = this.#init.context.backoff;
    try {
      while (!(await this.#deleteOnceConnected(signal))) {
        const { error, status } = await this.status(signal);
        if (error !== undefined && status !== 416) return;
        await clock.sleep(CANCEL_AGAIN_MS, signal);
      }
    } catch {
      // The upload was given up before; nothing depends on this.
    }
  }

  /** As `#delete`, tried again where no connection was to be had just now. */
  async #deleteOnceConnected(signal: AbortSignal): Promise<boolean> {
    for (let left = CANCEL_TRIES - 1; ; left -= 1) {
      try {
        return await this.#delete(signal);
      } catch (error) {
        if (left === 0 || !(error instanceof RegistryError && error.unsent && error.temporary)) throw error;
        await this.#init.context.backoff.clock.sleep(CANCEL_AGAIN_MS, signal);
      }
    }
  }

  /** Whether the upload is gone, or cannot be deleted by another Location either. */
  async #delete(signal: AbortSignal): Promise<boolean> {
    const { transport } = this.#init.context;
    const response = await transport.send(this.#request({ method: 'DELETE', url: this.#location, signal }));
    await response.discard();
    return response.status !== 416;
  }

  /** Small bodies are not worth the round trips of a handshake. */
  #wantsFresh({ start, end }: ByteRange): boolean {
    return this.#init.context.host.freshConnections && !this.takesAnyConnection && end - start >= LARGE_BYTES;
  }

  #request(request: RegistryRequest): RegistryRequest {
    return { ...request, scopes: this.#init.scopes, cookies: this.#init.cookies };
  }

  async #exchange(request: RegistryRequest): Promise<Answer> {
    const response = await this.#init.context.transport.send(this.#request(request));
    this.#follow(response);
    if (response.status < 200 || response.status > 299) {
      const error = await errorOf(response, { method: request.method, step: request.step, remedy: response.remedy });
      return { status: response.status, headers: response.headers, error };
    }
    await response.discard();
    return { status: response.status, headers: response.headers, error: undefined };
  }

  /**
   * The newest Location counts: of a success, and of a refusal that says how far the upload has come
   * (serverless-registry's 416).
   */
  #follow(response: RegistryResponse): void {
    const says = response.status < 300 || (response.status >= 400 && response.headers.range !== undefined);
    const location = resolveLocation(response.headers.location, response.url);
    if (says && location !== undefined && response.method !== 'PUT') this.#location = location;
  }
}

function closingTimeouts(sending: number, size: number): Partial<Timeouts> {
  const usual = defaultTimeouts(sending);
  const reading = size / CLOSING_BYTES_PER_MS;
  return { header: usual.header + reading, total: usual.total + reading };
}

// Where an upload goes on. distribution-spec, section "Pushing blobs": Location may be relative, may carry a query,
// may change.

/** A Location against the URL of the request that it answers; undefined when it is absent or not a URL. */
export function resolveLocation(header: string | undefined, request: URL): URL | undefined {
  if (header === undefined || header.trim() === '' || !URL.canParse(header.trim(), request.href)) return undefined;
  const location = new URL(header.trim(), request);
  location.hash = '';
  return location;
}

/**
 * The URL that closes an upload. The query that is there stays as it is, byte for byte: it may be signed
 * (which is why this is not `searchParams.append`, which writes all of the query anew).
 */
export function withDigest(location: URL, digest: Digest): URL {
  const closing = new URL(location);
  const query = location.search.replace(/^\?/, '').replace(/&$/, '');
  const parameter = `digest=${encodeURIComponent(digest)}`;
  closing.search = query === '' ? `?${parameter}` : `?${query}&${parameter}`;
  return closing;
}

// Cookies: load balancers pin a session to the replica that has it. RFC 6265, the part that this needs.

/** More than any load balancer sets; an answer must not fill memory or make the next request too large. */
const MOST_COOKIES = 20;
const LONGEST_COOKIE = 4096;

interface Cookie {
  readonly value: string;
  readonly path: string;
  readonly secure: boolean;
}

/** The cookies of one upload session; the transport shows it only to the registry's own origin. */
export class CookieJar {
  readonly #cookies = new Map<string, Cookie>();

  /** Takes the values of `Set-Cookie` of an answer to `url`. A cookie that is expired is removed. */
  store(url: URL, setCookies: readonly string[]): void {
    for (const line of setCookies) {
      const [pair = '', ...attributes] = line.split(';').map((part) => part.trim());
      const equals = pair.indexOf('=');
      if (equals <= 0 || line.length > LONGEST_COOKIE || /[\x00-\x1f\x7f-\uffff]/.test(pair)) continue;
      const named = new Map(attributes.map(attribute));
      const path = named.get('path')?.startsWith('/') ? named.get('path')! : defaultPath(url);
      const key = `${pair.slice(0, equals)} ${path}`;
      this.#cookies.delete(key);
      if (expired(named) || this.#cookies.size >= MOST_COOKIES) continue;
      this.#cookies.set(key, { value: pair, path, secure: named.has('secure') });
    }
  }

  /** The `Cookie` header for a request to `url`; undefined when there is none to send. */
  header(url: URL): string | undefined {
    const fitting = [...this.#cookies.values()].filter(
      ({ path, secure }) => pathMatches(url.pathname, path) && (!secure || url.protocol === 'https:'),
    );
    return fitting.length === 0 ? undefined : fitting.map(({ value }) => value).join('; ');
  }
}

const attribute = (text: string): [string, string] => {
  const equals = text.indexOf('=');
  return equals < 0
    ? [text.toLowerCase(), '']
    : [text.slice(0, equals).trim().toLowerCase(), text.slice(equals + 1).trim()];
};

/** RFC 6265, 5.2.1 and 5.2.2: Max-Age wins over Expires. */
function expired(attributes: ReadonlyMap<string, string>): boolean {
  const maxAge = attributes.get('max-age');
  if (maxAge !== undefined && /^-?\d+$/.test(maxAge)) return Number(maxAge) <= 0;
  return Date.parse(attributes.get('expires') ?? '') <= Date.now();
}

/** RFC 6265, 5.1.4. */
const defaultPath = (url: URL): string => url.pathname.slice(0, Math.max(url.pathname.lastIndexOf('/'), 1));

const pathMatches = (path: string, cookiePath: string): boolean =>
  path === cookiePath || path.startsWith(cookiePath.endsWith('/') ? cookiePath : `${cookiePath}/`);
