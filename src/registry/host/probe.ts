/** The first question to a registry, `GET /v2/` (distribution-spec, end-1): which scheme does it speak, and which challenge has it? */
import { untilAborted } from '../../common/async.ts';
import { RegistryError } from '../http/error.ts';
import { speaksTls } from '../http/network-error.ts';
import type { RegistryResponse } from '../http/response.ts';
import { isLoopback } from '../http/url-policy.ts';

export interface ProbeOptions {
  /** `host[:port]` of the API. */
  readonly host: string;
  readonly insecure: boolean;
  /** Asks without credentials; any status is an answer. */
  get(url: URL): Promise<RegistryResponse>;
  /** Gets the challenges of a 401. */
  learn(challenges: readonly string[]): void;
}

/** Asked once for all requests of a transport: else the first ones would each collect a 401. */
export class Probe {
  readonly #options: ProbeOptions;
  /** A loopback host may speak either; like Docker's daemon we don't ask for `insecure` there. */
  readonly #unsure: boolean;
  readonly #first: URL;
  #origin: URL;
  #running: Promise<void> | undefined;
  #isDone = false;

  /** Throws TypeError when the host is none. */
  constructor(options: ProbeOptions) {
    this.#options = options;
    const secure = new URL(`https://${options.host}`);
    this.#unsure = !options.insecure && isLoopback(secure);
    this.#first = options.insecure || this.#unsure ? new URL(`http://${options.host}`) : secure;
    this.#origin = this.#first;
  }

  get origin(): URL {
    return this.#origin;
  }

  /** A URL that was made from the origin before the scheme was known, with the right one. */
  settle(url: URL): URL {
    if (url.origin !== this.#first.origin || this.#first.origin === this.#origin.origin) return url;
    const settled = new URL(url);
    settled.protocol = this.#origin.protocol;
    return settled;
  }

  /** Resolves when the registry has answered. Throws RegistryError; the next call asks again. Rejects with the signal's reason. */
  async done(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#isDone) return;
    this.#running ??= this.#ask().catch((error: unknown) => {
      this.#running = undefined;
      throw error;
    });
    await untilAborted(this.#running, signal);
  }

  async #ask(): Promise<void> {
    const response = await this.#answer();
    if (response.status === 401) this.#options.learn(response.getAll('www-authenticate'));
    await response.discard();
    this.#isDone = true;
  }

  async #answer(): Promise<RegistryResponse> {
    const ask = (): Promise<RegistryResponse> => this.#options.get(new URL('/v2/', this.#origin));
    try {
      const response = await ask();
      if (!this.#unsure || response.status !== 400 || !/\bHTTPS\b/.test(await response.excerpt(2048))) return response;
    } catch (error) {
      if (!this.#unsure || !looksLikeTls(error)) throw error;
      return await this.#asHttps(ask).catch((other: unknown) => {
        throw speaksTls(other) ? other : error;
      });
    }
    return await this.#asHttps(ask);
  }

  /** The origin stays HTTPS only when it answers so: a connection that merely broke must not change it. */
  async #asHttps(ask: () => Promise<RegistryResponse>): Promise<RegistryResponse> {
    this.#origin = new URL(`https://${this.#options.host}`);
    try {
      return await ask();
    } catch (error) {
      this.#origin = this.#first;
      throw error;
    }
  }
}

/** A TLS server that gets plain HTTP sends an alert, which is no HTTP, or hangs up. Go's and nginx's answer 400 in plain HTTP instead. */
const looksLikeTls = (error: unknown): boolean =>
  error instanceof RegistryError && (error.kind === 'protocol' || error.kind === 'reset');
