/**
 * Sends one request to exactly one place: the registry, or another host that it has named, and treats them differently.
 */

import { now } from '../../common/async.ts';
import type { Authorization } from '../auth/authorizer.ts';
import type { Credentials, Secrets } from '../auth/credentials.ts';
import type { Connections, Lease } from '../http/connections.ts';
import { defaultTimeouts, type Timeouts } from '../http/deadline.ts';
import { lostPort, notRegistry, RegistryError, type RegistryErrorInit, readOnly } from '../http/error.ts';
import { type Answer, bodySize, exchange, type RequestBody } from '../http/exchange.ts';
import { type Attempt, CLIENT_CERTIFICATE_REMEDY } from '../http/network-error.ts';
import { RegistryResponse, warningTexts } from '../http/response.ts';

import { safeUrl, sameOrigin, sameSite, unsafeTarget } from '../http/url-policy.ts';
import type { RegistryOrigin } from './origin.ts';
import type { Backoff } from './throttle.ts';

const USER_AGENT = 'chunked-push';

const HAS_PAYLOAD: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH']);

interface SenderInit {
  /** `host[:port]` of an image reference. */
  readonly host: string;
  readonly origin: RegistryOrigin;
  readonly connections: Connections;
  readonly secrets: Secrets;
  readonly backoff: Backoff;
  /** Ends all requests. */
  readonly lifetime: AbortSignal;
  /** In place of the usual time-outs (ms). */
  readonly timeouts: Partial<Timeouts> | undefined;
  /** What to do about a 401 or 403. */
  refused(status: number): string;
  onEvent(event: TransportEvent): void;
}

export class Sender {
  readonly #init: SenderInit;
  readonly #warned = new Set<string>();
  #hasAnswered = false;

  constructor(init: SenderInit) {
    this.#init = init;
  }

  /** Sends a request to exactly one place. Credentials and cookies go to the registry's own origin only. */
  async send(request: RegistryRequest, authorization: Authorization | undefined): Promise<RegistryResponse> {
    const { method, url, step, body } = request;
    const registry = this.#init.origin.url;
    const home = sameOrigin(registry, url);
    const unsafe = unsafeTarget(registry, url);
    if (unsafe !== undefined) throw unsafeRedirect(request, 'unsafe', `this address ${unsafe}: not followed`);
    if (method === 'DELETE' && !home)
      throw unsafeRedirect(request, 'unsafe', 'this address is on another host: nothing is deleted there');
    const started = now();
    const asked = `${method} ${safeUrl(url)}`;
    const signals = [request.signal, this.#init.lifetime];
    const { dispatcher, proxy, release } = await this.#lease(request);
    this.#debug(`${asked}${body === undefined ? '' : ` (${bodySize(body)} bytes)`}`);
    try {
      const answer = await exchange(dispatcher, {
        method,
        url,
        step,
        proxy: proxy?.address,
        body,
        headers: this.#headers(request, home ? authorization?.header : undefined, home),
        timeouts: { ...defaultTimeouts(bodySize(body)), ...request.timeouts, ...this.#init.timeouts },
        signals,
        closes: request.freshConnection,
        onOver: release,
      });
      this.#init.backoff.answered(url);
      this.#debug(`${answer.statusCode} to ${asked} after ${Math.round(now() - started)} ms`);
      return this.#received(request, answer, signals, home);
    } catch (error) {
      throw this.#explained(error, url, home);
    }
  }

  async #lease(request: RegistryRequest): Promise<Lease> {
    const { method, url, step, signal } = request;
    try {
      const lease = await this.#init.connections.take(url, signal, request.freshConnection);
      this.#init.secrets.add(...(lease.proxy?.secrets ?? []));
      return lease;
    } catch (cause) {
      if (signal.aborted) throw cause;
      const reason = (cause as Error).message;
      throw new RegistryError({ kind: 'proxy', method, url, step, reason, temporary: false, cause });
    }
  }

  /** What the place and the time of a failure say about its remedy. */
  #explained(error: unknown, url: URL, home: boolean): unknown {
    if (!(error instanceof RegistryError) || error.kind === 'cancelled') return error;
    const wantsCertificate = home && !this.#hasAnswered && error.kind === 'reset' && url.protocol === 'https:';
    if (wantsCertificate) return error.advised(CLIENT_CERTIFICATE_REMEDY(this.#init.host));
    const remedy = home ? undefined : lostPort(this.#init.origin.url, url);
    return remedy === undefined ? error : error.advised(remedy);
  }

  #received(
    request: RegistryRequest,
    answer: Answer,
    signals: readonly AbortSignal[],
    home: boolean,
  ): RegistryResponse {
    const { method, url, step } = request;
    const { statusCode: status, headers, body } = answer;
    const mask = (text: string): string => this.#init.secrets.mask(text);
    const isKnown = home || (request.isForToken === true && sameSite(this.#init.origin.url, url));
    const shown = isKnown ? 'all' : 'codes';
    const remedy = (): string | undefined =>
      home ? this.#remedy(method, url, status) : status >= 400 ? lostPort(this.#init.origin.url, url) : undefined;
    const response = new RegistryResponse({ method, url, step, status, headers, body, mask, remedy, signals, shown });
    if (home) {
      this.#hasAnswered = true;
      this.#init.origin.answered();
      request.cookies?.store(url, response.getAll('set-cookie'));
      this.#init.backoff.note(response);
      this.#warn(response);
    }
    return response;
  }

  #remedy(method: string, url: URL, status: number): string | undefined {
    if (status === 401 || status === 403) return this.#init.refused(status);
    return status === 405 ? readOnly(this.#init.host, method, url) : undefined;
  }

  #headers(request: RegistryRequest, authorization: string | undefined, home: boolean): Record<string, string> {
    const { method, url, body } = request;
    const headers: Record<string, string> = { 'user-agent': USER_AGENT, ...request.headers };
    if (body !== undefined || HAS_PAYLOAD.has(method)) headers['content-length'] = String(bodySize(body));
    if (authorization !== undefined) headers.authorization = authorization;
    const cookies = home ? request.cookies?.header(url) : undefined;
    if (cookies !== undefined) headers.cookie = cookies;
    return headers;
  }

  #warn(response: RegistryResponse): void {
    for (const text of warningTexts(response.getAll('warning'))) {
      if (this.#warned.has(text)) continue;
      this.#warned.add(text);
      this.#init.onEvent({ type: 'warning', text: this.#init.secrets.mask(text) });
    }
  }

  #debug(line: string): void {
    this.#init.onEvent({ type: 'debug', line: this.#init.secrets.mask(line) });
  }
}

// What is asked of the transport of one registry, and what it reports.

/** What happens on the way, for the log. */
export type TransportEvent =
  /** To be masked before anything else is logged. */
  | { readonly type: 'secret'; readonly value: string }
  /** The registry's `Warning: 299`, each text once. distribution-spec, section Warnings. */
  | { readonly type: 'warning'; readonly text: string }
  /** One line for the debug log, without secrets. */
  | { readonly type: 'debug'; readonly line: string };

export interface TransportOptions {
  /** `host[:port]` of an image reference. */
  readonly host: string;
  /** Plain HTTP. A loopback host gets it anyway, unless it answers in TLS. */
  readonly insecure: boolean;
  /** PEM certificates that are trusted besides the default ones. */
  readonly ca?: string | undefined;
  /** False: any certificate is accepted, with a warning. Default: true. */
  readonly tlsVerify?: boolean | undefined;
  /** Folders like Docker's certs.d, with authorities and client certificates by host. Default: those of `env`. */
  readonly certsFolders?: readonly string[] | undefined;
  readonly credentials?: Credentials | undefined;
  /** Sources of credentials that could not be used: named when the registry refuses a request. */
  readonly credentialProblems?: readonly string[] | undefined;
  /** The registry that the inputs `username` and `password` are for, where it is another one: for remedies. */
  readonly inputsAreFor?: string | undefined;
  /** Connections at the same time, beside one for short requests. Default: 5. */
  readonly concurrency?: number | undefined;
  /** For HTTPS_PROXY, HTTP_PROXY, NO_PROXY (in either case), and the place of certs.d. Default: none. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** The back-off of this host; its hold is awaited before each request. Default: a new one. */
  readonly backoff?: Backoff | undefined;
  /** In place of the usual time-outs (ms), for every request, those for tokens too. */
  readonly timeouts?: Partial<Timeouts> | undefined;
  onEvent(event: TransportEvent): void;
}

/** The cookies of one upload session: see CookieJar in upload/session.ts. */
interface Cookies {
  /** Takes the values of `Set-Cookie` of an answer to `url`. */
  store(url: URL, setCookies: readonly string[]): void;
  /** The `Cookie` header for a request to `url`; undefined when there is none to send. */
  header(url: URL): string | undefined;
}

export interface RegistryRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Opened anew for each try; always sent with Content-Length. */
  readonly body?: RequestBody | undefined;
  /** The bearer scopes that this request wants, all in one token. */
  readonly scopes?: readonly string[] | undefined;
  readonly timeouts?: Partial<Timeouts> | undefined;
  readonly signal: AbortSignal;
  /** Sent and stored, for the registry's own origin. */
  readonly cookies?: Cookies | undefined;
  /** Default: true. A request whose body holds credentials is not to be sent anywhere else. */
  readonly followRedirects?: boolean | undefined;
  /** A request to a token server: what it says of the credentials is shown where it belongs to the registry. */
  readonly isForToken?: boolean | undefined;
  /**
   * On a new connection, which ends with the request: for middleboxes that count the bytes of each. Default: a kept
   * one.
   */
  readonly freshConnection?: boolean | undefined;
  /** What the push is doing, for messages. */
  readonly step?: string | undefined;
}

// Where an answer leads to, and whether we go there.

/** A request as far as a redirect changes it. */
interface Redirectable extends Attempt {
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** What an address that a registry named by mistake most often comes from. */
const UNSAFE_REMEDY =
  'if the registry runs behind a proxy, the proxy must tell it its outer address (headers Host and X-Forwarded-Proto)';

/** The error of an address that is not followed. */
export function unsafeRedirect(request: Attempt, kind: 'unsafe' | 'protocol', reason: string): RegistryError {
  const { method, url, step } = request;
  const remedy = kind === 'unsafe' ? UNSAFE_REMEDY : undefined;
  return new RegistryError({ kind, method, url, step, reason, remedy, temporary: false });
}

/**
 * The same request to another place. What was meant for the one origin does not go to another. Throws RegistryError for
 * an unsafe place.
 */
export function redirected<R extends Redirectable>(request: R, location: string): R {
  const target = URL.canParse(location, request.url.href) ? new URL(location, request.url) : undefined;
  if (target === undefined) throw unsafeRedirect(request, 'protocol', 'was redirected to what is no URL');
  const unsafe = unsafeTarget(request.url, target);
  if (unsafe !== undefined)
    throw unsafeRedirect({ ...request, url: target }, 'unsafe', `the redirect ${unsafe}: not followed`);
  if (sameOrigin(request.url, target)) return { ...request, url: target };
  const { authorization: _, ...headers } = request.headers ?? {};
  return { ...request, url: target, headers };
}

/**
 * Where an answer redirects to; undefined when it does not. 307 and 308 keep method and body (RFC 9110, 15.4), as
 * docker and skopeo follow them. Throws RegistryError for 301, 302 and 303 to a request with another method than GET
 * and HEAD: clients turn that into a GET, which would push nothing.
 */
export function redirectOf(response: RegistryResponse, request: Attempt): string | undefined {
  const { status, method, headers } = response;
  if (headers.location === undefined) return undefined;
  if (status === 307 || status === 308) return headers.location;
  if (status !== 301 && status !== 302 && status !== 303) return undefined;
  if (method === 'GET' || method === 'HEAD') return headers.location;
  const target = URL.canParse(headers.location, request.url.href) ? new URL(headers.location, request.url) : undefined;
  const reason = `was redirected with status ${status} to ${target === undefined ? 'what is no URL' : safeUrl(target)}`;
  const { url, step } = request;
  const remedy =
    target !== undefined && sameOrigin(target, url)
      ? // To a page of its own: a login, most often.
        notRegistry(url.host)
      : `push to ${target?.host ?? 'the host it redirects to'} instead${
          target?.protocol === 'https:' && url.protocol === 'http:' ? ' (with HTTPS, so without insecure)' : ''
        }, or have the server redirect with 307 or 308, which keep the method`;
  return fail({ kind: 'protocol', method, url, step, status, reason, remedy, temporary: false });
}

function fail(init: RegistryErrorInit): never {
  throw new RegistryError(init);
}
