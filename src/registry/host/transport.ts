/** Requests to one registry: its address, credentials, redirects, cookies and time-outs. What the answers mean is for the callers. */
import { now } from '../../common/async.ts';
import { type Authorization, Authorizer, type Wanted } from '../auth/authorizer.ts';
import type { Credentials } from '../auth/credentials.ts';
import { createDispatchers, type Dispatchers } from '../http/connections.ts';
import type { CookieJar } from '../http/cookies.ts';
import { defaultTimeouts, type Timeouts } from '../http/deadline.ts';
import { RegistryError } from '../http/error.ts';
import { type Answer, bodySize, exchange, type RequestBody } from '../http/exchange.ts';
import { cancelledError } from '../http/network-error.ts';
import { proxiesOf, proxySecrets } from '../http/proxies.ts';
import { redirected, redirectOf, unsafeRedirect } from '../http/redirect.ts';
import { RegistryResponse, warningTexts } from '../http/response.ts';
import { Secrets } from '../http/secrets.ts';
import { trustIn } from '../http/trust.ts';
import { apiHost, safeUrl, sameOrigin, unsafeTarget } from '../http/url-policy.ts';
import { Backoff } from './backoff.ts';
import { Probe } from './probe.ts';

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
  readonly credentials?: Credentials | undefined;
  /** For HTTPS_PROXY, HTTP_PROXY, NO_PROXY (in either case). Default: none. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** The back-off of this host; its hold is awaited before each request. Default: a new one. */
  readonly backoff?: Backoff | undefined;
  /** In place of the usual time-outs (ms), for every request, those for tokens too. */
  readonly timeouts?: Partial<Timeouts> | undefined;
  onEvent(event: TransportEvent): void;
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
  /** The cookies of an upload session: sent and stored, for the registry's own origin. */
  readonly cookies?: CookieJar | undefined;
  /** Default: for GET and HEAD. Other methods keep method and body, so only 307 and 308 are followed. */
  readonly followRedirects?: boolean | undefined;
  /** What the push is doing, for messages. */
  readonly step?: string | undefined;
}

/** GET and HEAD of blobs lead to a storage or CDN in one or two steps; more is a circle. */
const MOST_REDIRECTS = 5;

const USER_AGENT = 'chunked-push';

const HAS_PAYLOAD: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH']);

export class Transport {
  readonly backoff: Backoff;
  readonly #options: TransportOptions;
  readonly #secrets: Secrets;
  readonly #authorizer: Authorizer;
  readonly #dispatchers: Dispatchers;
  readonly #lifetime = new AbortController();
  readonly #warned = new Set<string>();
  readonly #probe: Probe;

  /** Nothing is sent yet. Throws when `ca` or the host can't be read. */
  constructor(options: TransportOptions) {
    this.#options = options;
    this.backoff = options.backoff ?? new Backoff();
    this.#secrets = new Secrets((value) => options.onEvent({ type: 'secret', value }));
    const proxies = proxiesOf(options.env ?? {});
    this.#secrets.add(...proxySecrets(proxies.https), ...proxySecrets(proxies.http));
    const connectTimeout = defaultTimeouts(0).connect;
    this.#dispatchers = createDispatchers({ proxies, trust: trustIn(options.ca), connectTimeout });
    this.#authorizer = new Authorizer({
      host: options.host,
      credentials: options.credentials,
      secrets: this.#secrets,
      exchange: (request) => this.#follow({ ...request, signal: this.#lifetime.signal }, undefined),
    });
    this.#probe = new Probe({
      host: apiHost(options.host),
      insecure: options.insecure,
      get: (url) =>
        this.#follow(
          { method: 'GET', url, step: 'asking the registry', signal: this.#lifetime.signal, followRedirects: false },
          undefined,
        ),
      learn: (challenges) => this.#authorizer.learn(challenges),
    });
  }

  /** Where the registry's API is: `https://host`, or `http://` for insecure and loopback ones. Settled by the first request. */
  get origin(): URL {
    return new URL(this.#probe.origin);
  }

  /**
   * Sends a request and resolves with the answer, whatever its status. A 401 gets one new token and the same request again.
   * Throws RegistryError for everything that is not an answer: network, an unsafe address, a token that is not to be had, our signal.
   */
  async send(request: RegistryRequest): Promise<RegistryResponse> {
    try {
      await this.#ready(request);
      const url = this.#probe.settle(request.url);
      return await this.#authorised({ ...request, url });
    } catch (error) {
      if (request.signal.aborted && !(error instanceof RegistryError))
        throw cancelledError(request.signal.reason, request);
      throw error;
    }
  }

  /** Asks the first question, if nobody has. Whatever comes of it is for the first request. */
  greet(): void {
    void this.#probe.done(this.#lifetime.signal).catch(() => {});
  }

  /** Ends every connection; requests that are under way are cancelled. */
  async close(): Promise<void> {
    this.#lifetime.abort(new Error('the connection to the registry was closed'));
    await this.#dispatchers.destroy();
  }

  async #ready({ signal }: RegistryRequest): Promise<void> {
    await this.#probe.done(signal);
    await this.backoff.ready(signal);
  }

  async #authorised(request: RegistryRequest): Promise<RegistryResponse> {
    const registry = this.#probe.origin;
    if (!sameOrigin(registry, request.url)) return await this.#follow(request, undefined);
    const wanted: Wanted = { ...request, registry, scopes: request.scopes ?? [] };
    const used = await this.#authorizer.authorize(wanted);
    const response = await this.#follow(request, used);
    if (response.status !== 401 || !sameOrigin(registry, response.url)) return response;
    const renewed = await this.#authorizer.renewed(used, wanted, response.getAll('www-authenticate'));
    if (renewed === undefined) return response;
    await response.discard();
    return await this.#follow(request, renewed);
  }

  /** Sends a request, and again to where it is redirected. */
  async #follow(request: RegistryRequest, authorization: Authorization | undefined): Promise<RegistryResponse> {
    const follow = request.followRedirects ?? (request.method === 'GET' || request.method === 'HEAD');
    let current = request;
    for (let redirects = 0; ; redirects++) {
      const response = await this.#exchange(current, authorization);
      const location = follow ? redirectOf(response) : undefined;
      if (location === undefined) return response;
      await response.discard();
      if (redirects === MOST_REDIRECTS) {
        throw unsafeRedirect(current, 'protocol', `was redirected more than ${MOST_REDIRECTS} times`);
      }
      current = redirected(current, location);
    }
  }

  /** Sends a request to exactly one place. Credentials and cookies go to the registry's own origin only. */
  async #exchange(request: RegistryRequest, authorization: Authorization | undefined): Promise<RegistryResponse> {
    const { method, url, step, body } = request;
    const registry = this.#probe.origin;
    const home = sameOrigin(registry, url);
    const unsafe = unsafeTarget(registry, url);
    if (unsafe !== undefined) throw unsafeRedirect(request, 'unsafe', `this address ${unsafe}: not followed`);
    const started = now();
    const asked = `${method} ${safeUrl(url)}`;
    this.#debug(`${asked}${body === undefined ? '' : ` (${bodySize(body)} bytes)`}`);
    const signals = [request.signal, this.#lifetime.signal];
    const answer = await exchange(await this.#dispatchers.of(url), {
      method,
      url,
      step,
      body,
      headers: this.#headers(request, home ? authorization?.header : undefined, home),
      timeouts: { ...defaultTimeouts(bodySize(body)), ...request.timeouts, ...this.#options.timeouts },
      signals,
    });
    this.backoff.answered(url);
    this.#debug(`${answer.statusCode} to ${asked} after ${Math.round(now() - started)} ms`);
    return this.#received(request, answer, signals, home);
  }

  #received(
    request: RegistryRequest,
    answer: Answer,
    signals: readonly AbortSignal[],
    home: boolean,
  ): RegistryResponse {
    const { method, url, step } = request;
    const { statusCode: status, headers, body } = answer;
    const remedy = home && (status === 401 || status === 403) ? this.#authorizer.remedy(status) : undefined;
    const mask = (text: string): string => this.#secrets.mask(text);
    const response = new RegistryResponse({ method, url, step, status, headers, body, mask, remedy, signals });
    if (home) {
      request.cookies?.store(url, response.getAll('set-cookie'));
      this.backoff.note(response);
      this.#warn(response);
    }
    return response;
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
      this.#options.onEvent({ type: 'warning', text: this.#secrets.mask(text) });
    }
  }

  #debug(line: string): void {
    this.#options.onEvent({ type: 'debug', line: this.#secrets.mask(line) });
  }
}
