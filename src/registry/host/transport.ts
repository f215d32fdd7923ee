/**
 * Requests to one registry: its address, credentials, redirects, cookies and time-outs. What the answers mean is for
 * the callers.
 */
import { type Authorization, Authorizer, type Wanted } from '../auth/authorizer.ts';
import { Secrets } from '../auth/credentials.ts';
import { Connections } from '../http/connections.ts';
import { defaultTimeouts } from '../http/deadline.ts';
import { RegistryError } from '../http/error.ts';
import { cancelledError } from '../http/network-error.ts';
import { Proxies } from '../http/proxies.ts';
import type { RegistryResponse } from '../http/response.ts';
import { trustOf } from '../http/trust.ts';
import { sameOrigin } from '../http/url-policy.ts';
import { RegistryOrigin } from './origin.ts';
import {
  type RegistryRequest,
  redirected,
  redirectOf,
  Sender,
  type TransportOptions,
  unsafeRedirect,
} from './sender.ts';
import { Backoff } from './throttle.ts';

/** GET and HEAD of blobs lead to a storage or CDN in one or two steps; more is a circle. */
const MOST_REDIRECTS = 5;

const DEFAULT_CONCURRENCY = 5;

export class Transport {
  readonly backoff: Backoff;
  readonly #secrets: Secrets;
  readonly #authorizer: Authorizer;
  readonly #connections: Connections;
  readonly #lifetime = new AbortController();
  readonly #origin: RegistryOrigin;
  readonly #sender: Sender;

  /**
   * Nothing is sent yet. Throws when the host, `ca`, its certs.d or the variable of a proxy that it needs can't be
   * read.
   */
  constructor(options: TransportOptions) {
    this.backoff = options.backoff ?? new Backoff();
    this.#secrets = new Secrets((value) => options.onEvent({ type: 'secret', value }));
    this.#authorizer = new Authorizer({
      host: options.host,
      credentials: options.credentials,
      problems: options.credentialProblems,
      inputsAreFor: options.inputsAreFor,
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
      expectsTls: options.ca !== undefined || options.tlsVerify === false || Boolean(options.env?.NODE_EXTRA_CA_CERTS),
      oneFirst: options.credentials !== undefined,
      onChange: (from, to) => this.#reopen(from, to),
    });
    const proxies = new Proxies(options.env ?? {});
    this.#secrets.add(...(proxies.for(this.#origin.url)?.secrets ?? []));
    this.#connections = new Connections({
      proxies,
      trust: trustOf(options, (text) => options.onEvent({ type: 'warning', text })),
      connectTimeout: defaultTimeouts(0).connect,
      perOrigin: (options.concurrency ?? DEFAULT_CONCURRENCY) + 1,
      isOwn: (url) => sameOrigin(url, this.#origin.url),
    });
    this.#sender = new Sender({
      host: options.host,
      origin: this.#origin,
      connections: this.#connections,
      secrets: this.#secrets,
      backoff: this.backoff,
      lifetime: this.#lifetime.signal,
      timeouts: options.timeouts,
      refused: (status) => this.#authorizer.remedy(status),
      onEvent: (event) => options.onEvent(event),
    });
  }

  /**
   * Where the registry's API is: `https://host`, or `http://` for insecure and loopback ones. Final with the first
   * answer.
   */
  get origin(): URL {
    return new URL(this.#origin.url);
  }

  /** How the registry asks for credentials (`basic`, `bearer`); undefined as long as it did not. */
  get authScheme(): string | undefined {
    return this.#authorizer.scheme;
  }

  /**
   * Sends a request and resolves with the answer, whatever its status. A 401 gets one new token and the same request
   * again. Throws RegistryError for everything that is not an answer: network, an unsafe address, a token that is not
   * to be had, our signal.
   */
  async send(request: RegistryRequest): Promise<RegistryResponse> {
    try {
      await this.backoff.ready(request.signal);
      await this.#origin.schemeTold(request.signal);
      if (request.body !== undefined && this.#origin.needsFirst) await this.#ping(request.signal);
      return await this.#authorised(request);
    } catch (error) {
      if (request.signal.aborted && !(error instanceof RegistryError))
        throw cancelledError(request.signal.reason, request);
      throw error;
    }
  }

  /**
   * Opens `concurrency` + 1 connections to the registry, which requests then find ready, and names the scopes that the
   * push will need, so that one token serves all its requests. Sends nothing; a registry that can't be reached is
   * reported by the first request.
   */
  connect(scopes: readonly string[]): void {
    this.#authorizer.expect(scopes);
    this.#opened = this.#origin.likely;
    this.#origin.opening(this.#opened, this.#connections.open(this.#opened));
  }

  /** Where connections were opened ahead. */
  #opened: URL | undefined;

  #reopen(from: URL, to: URL): void {
    this.#connections.closeUnused(from);
    if (this.#opened !== undefined && this.#opened.origin !== to.origin) void this.#connections.open(to);
  }

  /** Ends every connection; requests that are under way are cancelled. */
  async close(): Promise<void> {
    this.#lifetime.abort(new Error('the connection to the registry was closed'));
    await this.#connections.destroy();
  }

  /**
   * `GET /v2/` (distribution-spec, end-1) in place of a first request with a body, which a 401 or another scheme would
   * have us send twice.
   */
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
      if (isChallenge(answer, this.#origin.url)) this.#authorizer.noteChallenges(answer.getAll('www-authenticate'));
      return answer;
    }, signal);
    return used === undefined ? response : await this.#answered(response, used, wanted, current);
  }

  /**
   * Renews what a request carried that was answered with 401: once, and once more for a token that is shared by all
   * requests.
   */
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
      const response = await this.#sender.send(current, authorization);
      const location = request.followRedirects === false ? undefined : redirectOf(response, current);
      if (location === undefined) return response;
      await response.discard();
      if (redirects === MOST_REDIRECTS) {
        throw unsafeRedirect(current, 'protocol', `was redirected more than ${MOST_REDIRECTS} times`);
      }
      current = redirected(current, location);
    }
  }
}

/** Whether an answer of the registry itself asks for other credentials than the request carried. */
const isChallenge = (response: RegistryResponse, registry: URL): boolean =>
  response.status === 401 && sameOrigin(registry, response.url);
