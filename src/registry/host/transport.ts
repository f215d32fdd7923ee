/** Requests to one registry: its address, credentials, redirects, cookies and time-outs. What the answers mean is for the callers. */
import { now } from '../../common/async.ts';
import { type Authorization, Authorizer, type Wanted } from '../auth/authorizer.ts';
import type { Credentials } from '../auth/credentials.ts';
import { certificatesFor, certsFolders } from '../http/certs-d.ts';
import { Connections, type Lease } from '../http/connections.ts';
import type { CookieJar } from '../http/cookies.ts';
import { defaultTimeouts, type Timeouts } from '../http/deadline.ts';
import { RegistryError } from '../http/error.ts';
import { type Answer, bodySize, exchange, type RequestBody } from '../http/exchange.ts';
import { CLIENT_CERTIFICATE_REMEDY, cancelledError } from '../http/network-error.ts';
import { Proxies } from '../http/proxies.ts';
import { redirected, redirectOf, unsafeRedirect } from '../http/redirect.ts';
import { RegistryResponse, warningTexts } from '../http/response.ts';
import { Secrets } from '../http/secrets.ts';
import { certificatesIn, type Trust, trustIn } from '../http/trust.ts';
import { safeUrl, sameOrigin, sameSite, unsafeTarget } from '../http/url-policy.ts';
import { Backoff } from './backoff.ts';
import { RegistryOrigin } from './origin.ts';
import { lostPort, readOnly } from './remedies.ts';

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
  /** Default: true. A request whose body holds credentials is not to be sent anywhere else. */
  readonly followRedirects?: boolean | undefined;
  /** A request to a token server: what it says of the credentials is shown where it belongs to the registry. */
  readonly isForToken?: boolean | undefined;
  /** On a new connection, which ends with the request: for middleboxes that count the bytes of each. Default: a kept one. */
  readonly freshConnection?: boolean | undefined;
  /** What the push is doing, for messages. */
  readonly step?: string | undefined;
}

/** GET and HEAD of blobs lead to a storage or CDN in one or two steps; more is a circle. */
const MOST_REDIRECTS = 5;

const USER_AGENT = 'chunked-push';

const HAS_PAYLOAD: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH']);

const DEFAULT_CONCURRENCY = 5;

export class Transport {
  readonly backoff: Backoff;
  readonly #options: TransportOptions;
  readonly #secrets: Secrets;
  readonly #authorizer: Authorizer;
  readonly #connections: Connections;
  readonly #lifetime = new AbortController();
  readonly #warned = new Set<string>();
  readonly #origin: RegistryOrigin;
  #hasAnswered = false;

  /** Nothing is sent yet. Throws when the host, `ca`, its certs.d or the variable of a proxy that it needs can't be read. */
  constructor(options: TransportOptions) {
    this.#options = options;
    this.backoff = options.backoff ?? new Backoff();
    this.#secrets = new Secrets((value) => options.onEvent({ type: 'secret', value }));
    this.#authorizer = new Authorizer({
      host: options.host,
      credentials: options.credentials,
      problems: options.credentialProblems,
      secrets: this.#secrets,
      exchange: (request) =>
        this.#follow(
          { ...request, signal: this.#lifetime.signal, followRedirects: request.body === undefined, isForToken: true },
          undefined,
        ),
    });
    this.#origin = new RegistryOrigin({
      host: options.host,
      insecure: options.insecure,
      expectsTls: options.ca !== undefined || options.tlsVerify === false,
      oneFirst: options.credentials !== undefined,
      onChange: (from, to) => this.#reopen(from, to),
    });
    const proxies = new Proxies(options.env ?? {});
    this.#secrets.add(...(proxies.for(this.#origin.url)?.secrets ?? []));
    this.#connections = new Connections({
      proxies,
      trust: this.#trust(),
      connectTimeout: defaultTimeouts(0).connect,
      perOrigin: (options.concurrency ?? DEFAULT_CONCURRENCY) + 1,
      isOwn: (url) => sameOrigin(url, this.#origin.url),
    });
  }

  /** Where the registry's API is: `https://host`, or `http://` for insecure and loopback ones. Final with the first answer. */
  get origin(): URL {
    return new URL(this.#origin.url);
  }

  /**
   * Sends a request and resolves with the answer, whatever its status. A 401 gets one new token and the same request again.
   * Throws RegistryError for everything that is not an answer: network, an unsafe address, a token that is not to be had, our signal.
   */
  async send(request: RegistryRequest): Promise<RegistryResponse> {
    try {
      await this.backoff.ready(request.signal);
      if (request.body !== undefined && this.#origin.needsFirst) await this.#ping(request.signal);
      return await this.#authorised(request);
    } catch (error) {
      if (request.signal.aborted && !(error instanceof RegistryError))
        throw cancelledError(request.signal.reason, request);
      throw error;
    }
  }

  /**
   * Opens `concurrency` connections to the registry, which requests then find ready, and names the scopes that the push will need, so
   * that one token serves all its requests. Sends nothing; a registry that can't be reached is reported by the first request.
   */
  connect(scopes: readonly string[]): void {
    this.#authorizer.expect(scopes);
    this.#opened = this.#origin.likely;
    this.#connections.open(this.#opened, this.#options.concurrency ?? DEFAULT_CONCURRENCY);
  }

  /** Where connections were opened ahead. */
  #opened: URL | undefined;

  #reopen(from: URL, to: URL): void {
    this.#connections.closeUnused(from);
    if (this.#opened !== undefined && this.#opened.origin !== to.origin)
      this.#connections.open(to, this.#options.concurrency ?? DEFAULT_CONCURRENCY);
  }

  /** Ends every connection; requests that are under way are cancelled. */
  async close(): Promise<void> {
    this.#lifetime.abort(new Error('the connection to the registry was closed'));
    await this.#connections.destroy();
  }

  #trust(): Trust {
    const { host, ca, env, tlsVerify, certsFolders: folders = certsFolders(env ?? {}) } = this.#options;
    const found = certificatesFor(host, folders);
    for (const problem of found.problems) this.#options.onEvent({ type: 'warning', text: problem });
    if (tlsVerify === false)
      this.#options.onEvent({ type: 'warning', text: `tls-verify is false: any certificate of ${host} is accepted` });
    return trustIn({
      ca: [...(ca === undefined ? [] : certificatesIn(ca)), ...found.ca],
      client: found.client,
      verify: tlsVerify,
    });
  }

  /** `GET /v2/` (distribution-spec, end-1) in place of a first request with a body, which a 401 or another scheme would have us send twice. */
  async #ping(signal: AbortSignal): Promise<void> {
    const url = new URL('/v2/', this.#origin.url);
    const response = await this.#authorised({ method: 'GET', url, signal, step: 'asking the registry' });
    await response.discard();
  }

  async #authorised(request: RegistryRequest): Promise<RegistryResponse> {
    const { signal } = request;
    if (!sameOrigin(this.#origin.url, this.#origin.actual(request.url))) return await this.#follow(request, undefined);
    const current = (): RegistryRequest => ({ ...request, url: this.#origin.actual(request.url) });
    const wanted = (): Wanted => ({ ...request, registry: this.#origin.url, scopes: request.scopes ?? [] });
    let used: Authorization | undefined;
    const response = await this.#origin.ask(async () => {
      used = await this.#authorizer.authorize(wanted());
      const answer = await this.#follow(current(), used);
      // Before any other request goes on.
      if (isChallenge(answer, this.#origin.url)) this.#authorizer.learn(answer.getAll('www-authenticate'));
      return answer;
    }, signal);
    return used === undefined ? response : await this.#answered(response, used, wanted, current);
  }

  /** Renews what a request carried that was answered with 401: once, and once more for a token that is shared by all requests. */
  async #answered(
    first: RegistryResponse,
    carried: Authorization,
    wanted: () => Wanted,
    current: () => RegistryRequest,
  ): Promise<RegistryResponse> {
    let [response, used] = [first, carried];
    for (let renewals = 0; isChallenge(response, this.#origin.url); renewals++) {
      if (renewals > 0 && !used.isShared) return response;
      const renewed = await this.#authorizer.renewed(used, wanted(), response.getAll('www-authenticate'));
      if (renewed === undefined) return response;
      await response.discard();
      used = renewed;
      response = await this.#follow(current(), used);
    }
    this.#authorizer.accepted(used, wanted());
    return response;
  }

  /** Sends a request, and again to where it is redirected. */
  async #follow(request: RegistryRequest, authorization: Authorization | undefined): Promise<RegistryResponse> {
    let current = request;
    for (let redirects = 0; ; redirects++) {
      const response = await this.#exchange(current, authorization);
      const location = request.followRedirects === false ? undefined : redirectOf(response, current);
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
    const registry = this.#origin.url;
    const home = sameOrigin(registry, url);
    const unsafe = unsafeTarget(registry, url);
    if (unsafe !== undefined) throw unsafeRedirect(request, 'unsafe', `this address ${unsafe}: not followed`);
    if (method === 'DELETE' && !home)
      throw unsafeRedirect(request, 'unsafe', 'this address is on another host: nothing is deleted there');
    const started = now();
    const asked = `${method} ${safeUrl(url)}`;
    const signals = [request.signal, this.#lifetime.signal];
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
        timeouts: { ...defaultTimeouts(bodySize(body)), ...request.timeouts, ...this.#options.timeouts },
        signals,
        closes: request.freshConnection,
        onOver: release,
      });
      this.backoff.answered(url);
      this.#debug(`${answer.statusCode} to ${asked} after ${Math.round(now() - started)} ms`);
      return this.#received(request, answer, signals, home);
    } catch (error) {
      throw this.#explained(error, url, home);
    }
  }

  async #lease(request: RegistryRequest): Promise<Lease> {
    const { method, url, step, signal } = request;
    try {
      const lease = await this.#connections.take(url, signal, request.freshConnection);
      this.#secrets.add(...(lease.proxy?.secrets ?? []));
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
    if (wantsCertificate) return error.advised(CLIENT_CERTIFICATE_REMEDY(this.#options.host));
    const remedy = home ? undefined : lostPort(this.#origin.url, url);
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
    const mask = (text: string): string => this.#secrets.mask(text);
    const isKnown = home || (request.isForToken === true && sameSite(this.#origin.url, url));
    const shown = isKnown ? 'all' : 'codes';
    const remedy = (): string | undefined =>
      home ? this.#remedy(method, url, status) : status >= 400 ? lostPort(this.#origin.url, url) : undefined;
    const response = new RegistryResponse({ method, url, step, status, headers, body, mask, remedy, signals, shown });
    if (home) {
      this.#hasAnswered = true;
      this.#origin.answered();
      request.cookies?.store(url, response.getAll('set-cookie'));
      this.backoff.note(response);
      this.#warn(response);
    }
    return response;
  }

  #remedy(method: string, url: URL, status: number): string | undefined {
    if (status === 401 || status === 403) return this.#authorizer.remedy(status);
    return status === 405 ? readOnly(this.#options.host, method, url) : undefined;
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

/** Whether an answer of the registry itself asks for other credentials than the request carried. */
const isChallenge = (response: RegistryResponse, registry: URL): boolean =>
  response.status === 401 && sameOrigin(registry, response.url);
