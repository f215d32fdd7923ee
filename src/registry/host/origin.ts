/**
 * Where a registry's API is, and in which scheme: known from the answer to the first request, whatever that asks for.
 */

import { untilAborted } from '../../common/async.ts';
import { apiHost } from '../../oci/reference.ts';
import { RegistryError } from '../http/error.ts';
import { speaksTls } from '../http/network-error.ts';
import type { RegistryResponse } from '../http/response.ts';
import { isLoopback } from '../http/url-policy.ts';

interface RegistryOriginOptions {
  /** `host[:port]` of an image reference. */
  readonly host: string;
  readonly insecure: boolean;
  /** Certificates were named for the host: a loopback one is likely to speak TLS then. */
  readonly expectsTls: boolean;
  /** Whether other requests wait for the first answer: with credentials they would each collect a 401. */
  readonly oneFirst: boolean;
  /** The registry is reached under another URL than was thought. */
  onChange(from: URL, to: URL): void;
}

export class RegistryOrigin {
  readonly #options: RegistryOriginOptions;
  /** A loopback host may speak either scheme; like Docker's daemon we don't ask for `insecure` there. */
  #isUnsure: boolean;
  readonly #secure: URL;
  readonly #assumed: URL;
  #url: URL;
  #isKnown = false;
  #asking: Promise<void> | undefined;
  #handshake: Promise<void> | undefined;

  /** Throws TypeError when the host is none. */
  constructor(options: RegistryOriginOptions) {
    const host = apiHost(options.host);
    this.#options = options;
    this.#secure = new URL(`https://${host}`);
    this.#isUnsure = !options.insecure && isLoopback(this.#secure);
    this.#assumed = options.insecure || this.#isUnsure ? new URL(`http://${host}`) : this.#secure;
    this.#url = this.#assumed;
  }

  /** As far as it is known: the scheme of a loopback host may change with the first answer. */
  get url(): URL {
    return this.#url;
  }

  /** Where connections may be opened ahead: what the first answer is likely to come from. */
  get likely(): URL {
    return this.#isUnsure && !this.#isKnown && this.#options.expectsTls ? this.#secure : this.#url;
  }

  /**
   * Connections are being opened to `url`; `isOpen` resolves to whether that succeeds. A TLS handshake, its certificate
   * verified, tells the scheme of a loopback host: no request is needed for that.
   */
  opening(url: URL, isOpen: Promise<boolean>): void {
    if (!this.#isUnsure || this.#isKnown || url.origin !== this.#secure.origin) return;
    this.#handshake = isOpen.then((succeeded) => {
      this.#handshake = undefined;
      if (!succeeded || this.#isKnown) return;
      this.#isUnsure = false;
      this.#url = this.#secure;
      this.#options.onChange(this.#assumed, this.#secure);
    });
  }

  /** Resolves when the handshakes under way have told the scheme, or can't. Rejects with the signal's reason. */
  async schemeTold(signal: AbortSignal): Promise<void> {
    if (this.#handshake !== undefined) await untilAborted(this.#handshake, signal);
  }

  /** A URL that was made from the origin before the scheme was known, with the right one. */
  actual(url: URL): URL {
    if (url.origin !== this.#assumed.origin || this.#assumed.origin === this.#url.origin) return url;
    const actual = new URL(this.#url);
    actual.pathname = url.pathname;
    actual.search = url.search;
    return actual;
  }

  /** Whether a request must go ahead of all others, with little to lose: see `ask`. */
  get needsFirst(): boolean {
    return !this.#isKnown && (this.#isUnsure || this.#options.oneFirst);
  }

  /** The registry has answered: the scheme is final. */
  answered(): void {
    this.#isKnown = true;
  }

  /**
   * Sends a request by `send`, which makes its URL with `actual`. Until there was an answer to any, one request goes
   * ahead, and the others wait for it where the scheme or the challenge matters. Rejects as `send` does, or with the
   * signal's reason.
   */
  async ask(send: () => Promise<RegistryResponse>, signal: AbortSignal): Promise<RegistryResponse> {
    while (this.needsFirst && this.#asking !== undefined) await untilAborted(this.#asking, signal);
    if (!this.needsFirst) return await send();
    const first = Promise.withResolvers<void>();
    this.#asking = first.promise;
    try {
      return await (this.#isUnsure ? this.#inEitherScheme(send) : send());
    } finally {
      this.#asking = undefined;
      first.resolve();
    }
  }

  async #inEitherScheme(send: () => Promise<RegistryResponse>): Promise<RegistryResponse> {
    try {
      const response = await send();
      if (response.status !== 400 || !/\bHTTPS\b/.test(await response.excerpt(2048))) return response;
      this.#isKnown = false;
    } catch (error) {
      if (this.#isKnown || !looksLikeTls(error)) throw error;
      return await this.#overTls(send).catch((other: unknown) => {
        throw this.#isKnown || speaksTls(other) ? other : error;
      });
    }
    return await this.#overTls(send);
  }

  /** The origin stays HTTPS only when it answers so: a connection that merely broke must not change it. */
  async #overTls(send: () => Promise<RegistryResponse>): Promise<RegistryResponse> {
    this.#url = this.#secure;
    try {
      return await send();
    } finally {
      if (this.#isKnown) this.#options.onChange(this.#assumed, this.#secure);
      else this.#url = this.#assumed;
    }
  }
}

/**
 * A TLS server that receives plain HTTP sends an alert, which is no HTTP, or hangs up. Go's and nginx's answer 400 in
 * plain HTTP.
 */
const looksLikeTls = (error: unknown): boolean =>
  error instanceof RegistryError && (error.kind === 'protocol' || error.kind === 'reset');
