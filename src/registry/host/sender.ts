/** Sends one request to exactly one place: the registry, or another host that it has named, and treats them differently. */

import { now } from '../../common/async.ts';
import type { Authorization } from '../auth/authorizer.ts';
import type { Connections, Lease } from '../http/connections.ts';
import { defaultTimeouts, type Timeouts } from '../http/deadline.ts';
import { RegistryError } from '../http/error.ts';
import { type Answer, bodySize, exchange } from '../http/exchange.ts';
import { CLIENT_CERTIFICATE_REMEDY } from '../http/network-error.ts';
import { unsafeRedirect } from '../http/redirect.ts';
import { RegistryResponse, warningTexts } from '../http/response.ts';
import type { Secrets } from '../http/secrets.ts';
import { safeUrl, sameOrigin, sameSite, unsafeTarget } from '../http/url-policy.ts';
import type { Backoff } from './backoff.ts';
import type { RegistryOrigin } from './origin.ts';
import { lostPort, readOnly } from './remedies.ts';
import type { RegistryRequest, TransportEvent } from './request.ts';

const USER_AGENT = 'chunked-push';

const HAS_PAYLOAD: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH']);

export interface SenderInit {
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
