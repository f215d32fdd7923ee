/** One open upload at the registry: where it goes on, how far it has come. distribution-spec, section "Pushing blobs". */
import type { Digest } from '../../image/oci.ts';
import type { BlobBody } from '../body.ts';
import type { HostContext } from '../context.ts';
import type { CookieJar } from '../cookies.ts';
import { defaultTimeouts, type Timeouts } from '../deadline.ts';
import { errorOf } from '../error.ts';
import type { RegistryResponse } from '../response.ts';
import type { RegistryRequest } from '../transport.ts';
import { resolveLocation, withDigest } from './location.ts';
import type { Traffic } from './traffic.ts';
import type { Answer, Piece } from './verdict.ts';

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
  async patch(body: BlobBody, piece: Piece, traffic: Traffic, signal: AbortSignal): Promise<Answer> {
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
    body: BlobBody,
    piece: Piece,
    whole: { digest: Digest; size: number },
    traffic: Traffic,
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
