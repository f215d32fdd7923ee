/** What is asked of the transport of one registry, and what it reports. */

import type { Credentials } from '../auth/credentials.ts';
import type { CookieJar } from '../http/cookies.ts';
import type { Timeouts } from '../http/deadline.ts';
import type { RequestBody } from '../http/exchange.ts';
import type { Backoff } from './backoff.ts';

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
  /**
   * On a new connection, which ends with the request: for middleboxes that count the bytes of each. Default: a kept
   * one.
   */
  readonly freshConnection?: boolean | undefined;
  /** What the push is doing, for messages. */
  readonly step?: string | undefined;
}
