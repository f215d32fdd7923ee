/** One open upload at the registry: where it goes on, how far it has come. distribution-spec, section "Pushing blobs". */
import type { ByteRange, ReadableBlob } from '../../blob/blob.ts';
import type { Digest } from '../../oci/types.ts';
import type { HostContext } from '../host/context.ts';
import type { UploadMetrics } from '../host/scheduler.ts';
import type { RegistryRequest } from '../host/transport.ts';
import type { CookieJar } from '../http/cookies.ts';
import { defaultTimeouts, type Timeouts } from '../http/deadline.ts';
import { errorOf } from '../http/error.ts';
import type { RegistryResponse } from '../http/response.ts';
import type { Answer } from './classify.ts';

/**
 * Servers read the whole blob again before they answer the closing PUT: distribution hashes it, serverless-registry copies it.
 * 10 MB/s is a slow network disk; nobody is cut off who is faster.
 */
const CLOSING_BYTES_PER_MS = 10_000;

/** How long a session that is given up may take to be deleted. */
const CANCEL_MS = 5_000;

export interface SessionInit {
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
  /** The size of all its chunks but the last; undefined before the first. */
  chunkSize: number | undefined;
  /** Since the last progress: answers 500; chunks that got 500 or a reset; offsets that can't be; refusals at the right offset. */
  internalErrors = 0;
  setbacks = 0;
  contradictions = 0;
  refusals = 0;
  /** The end of a chunk that got a 201 without a Range that moved. */
  stalledAt: number | undefined;
  /** Whether the closing PUT was already sent a second time. */
  closedAgain = false;
  readonly #init: SessionInit;
  #location: URL;

  constructor(init: SessionInit) {
    this.#init = init;
    this.#location = init.location;
  }

  get location(): string {
    return this.#location.href;
  }

  /** Takes note that the registry holds so many bytes. */
  confirm(bytes: number): void {
    this.offset = bytes;
    this.internalErrors = 0;
    this.setbacks = 0;
    this.contradictions = 0;
    this.refusals = 0;
    this.stalledAt = undefined;
  }

  /**
   * Sends one chunk. serverless-registry refuses the Content-Range of a single byte (`7-7`) as an empty range, Gitea refuses
   * a later chunk without one: so it is left out for one byte where chunk lengths are announced.
   */
  async patch(body: ReadableBlob, piece: ByteRange, traffic: UploadMetrics, signal: AbortSignal): Promise<Answer> {
    const size = piece.end - piece.start;
    const bare = size === 1 && (piece.start === 0 || this.#init.context.host.announcesChunks);
    const range = bare ? {} : { 'content-range': `${piece.start}-${piece.end - 1}` };
    this.sent = Math.max(this.sent, piece.end);
    return this.#exchange({
      method: 'PATCH',
      url: this.#location,
      headers: { 'content-type': 'application/octet-stream', ...range },
      body: traffic.metered(body, piece),
      signal,
      step: 'sending a chunk',
    });
  }

  /** Asks how far the upload has come. */
  status(signal: AbortSignal): Promise<Answer> {
    return this.#exchange({ method: 'GET', url: this.#location, signal, step: 'asking for the state of an upload' });
  }

  /** Closes the upload; `piece` are the bytes that come with it, perhaps none, perhaps the whole blob. */
  async close(
    body: ReadableBlob,
    piece: ByteRange,
    whole: { digest: Digest; size: number },
    traffic: UploadMetrics,
    signal: AbortSignal,
  ): Promise<Answer> {
    const range =
      piece.start > 0 && piece.end - piece.start > 1 ? { 'content-range': `${piece.start}-${piece.end - 1}` } : {};
    this.sent = Math.max(this.sent, piece.end);
    return this.#exchange({
      method: 'PUT',
      url: withDigest(this.#location, whole.digest),
      headers: { 'content-type': 'application/octet-stream', ...range },
      body: traffic.metered(body, piece),
      timeouts: closingTimeouts(piece.end - piece.start, whole.size),
      signal,
      step: 'closing an upload',
    });
  }

  /** Deletes the upload. Never rejects: a registry clears away forgotten uploads by itself some day. */
  async cancel(signal: AbortSignal = AbortSignal.timeout(CANCEL_MS)): Promise<void> {
    try {
      const { transport } = this.#init.context;
      const response = await transport.send({ ...this.#request({ method: 'DELETE', url: this.#location, signal }) });
      await response.discard();
    } catch {
      // The upload was given up before; nothing depends on this.
    }
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

  /** The newest Location counts: of a success, and of a refusal that says how far the upload has come (serverless-registry's 416). */
  #follow(response: RegistryResponse): void {
    const says = response.status < 300 || (response.status >= 400 && response.headers.range !== undefined);
    const location = resolveLocation(response.headers.location, response.url);
    if (says && location !== undefined && response.method !== 'PUT') this.#location = location;
  }
}

function closingTimeouts(sending: number, whole: number): Partial<Timeouts> {
  const usual = defaultTimeouts(sending);
  const reading = whole / CLOSING_BYTES_PER_MS;
  return { header: usual.header + reading, whole: usual.whole + reading };
}

/** Where an upload goes on. distribution-spec, section "Pushing blobs": Location may be relative, may carry a query, may change. */

/** A Location against the URL of the request that it answers; undefined when it is absent or not a URL. */
export function resolveLocation(header: string | undefined, request: URL): URL | undefined {
  if (header === undefined || header.trim() === '' || !URL.canParse(header.trim(), request.href)) return undefined;
  const location = new URL(header.trim(), request);
  location.hash = '';
  return location;
}

/**
 * The URL that closes an upload. The query that is there stays as it is, byte for byte: it may be signed
 * (which is why this is not `searchParams.append`, which writes the whole query anew).
 */
export function withDigest(location: URL, digest: Digest): URL {
  const closing = new URL(location);
  const query = location.search.replace(/^\?/, '').replace(/&$/, '');
  const parameter = `digest=${encodeURIComponent(digest)}`;
  closing.search = query === '' ? `?${parameter}` : `?${query}&${parameter}`;
  return closing;
}

/** The uploads that are open at a registry, so that none is left behind. */

/** The runner kills a cancelled job after seconds: no more than this for deleting what is left. */
const CLOSING_MS = 2_000;

export class OpenSessions {
  readonly #opening = new Set<Promise<void>>();
  readonly #open = new Set<Session>();
  readonly #cancelling = new Set<Promise<void>>();

  /** Remembers the session that comes of this, also when nobody waits for it any more. */
  async opened(opening: Promise<Session | 'mounted'>): Promise<Session | 'mounted'> {
    const remembered = opening.then((session) => void (session === 'mounted' || this.#open.add(session)));
    const done: Promise<void> = remembered.catch(() => {}).finally(() => this.#opening.delete(done));
    this.#opening.add(done);
    await remembered;
    return opening;
  }

  /** It came to its end by itself. */
  forget(session: Session): void {
    this.#open.delete(session);
  }

  /** Deletes an upload in the background. */
  cancel(session: Session): void {
    if (!this.#open.delete(session)) return;
    const done: Promise<void> = session.cancel().finally(() => this.#cancelling.delete(done));
    this.#cancelling.add(done);
  }

  /** Deletes all that are still open and waits for it, 2 s at most. Never rejects. */
  async close(): Promise<void> {
    if (this.#opening.size + this.#open.size + this.#cancelling.size === 0) return;
    const signal = AbortSignal.timeout(CLOSING_MS);
    const timeout = new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    await Promise.race([Promise.all(this.#opening), timeout]);
    const left = [...this.#open].map((session) => session.cancel(signal));
    this.#open.clear();
    await Promise.race([Promise.all([...left, ...this.#cancelling]), timeout]);
  }
}
