/**
 * What went wrong between us and a registry, as a value: what was tried, what the other side said, what to do about it.
 */

import { isRateLimit, type RegistryCode, readableReason, registryCodes } from './error-body.ts';
import { safeUrl } from './url-policy.ts';

/**
 * Where an error comes from. `auth`: no or wrong credentials; `denied`: known and not allowed; `tls`, `dns`: the host
 * is not what it should be; `timeout`, `refused`, `reset`: the network; `proxy`: the proxy on the way; `protocol`: an
 * answer that is not HTTP or not what the specification asks for; `unsafe`: an address that must not be followed;
 * `status`: any other status; `cancelled`: by our own signal; `body`: the bytes to send could not be read; `limited`:
 * too many requests, taken later.
 */
export type ErrorKind =
  | 'auth'
  | 'denied'
  | 'limited'
  | 'tls'
  | 'dns'
  | 'timeout'
  | 'refused'
  | 'reset'
  | 'proxy'
  | 'protocol'
  | 'unsafe'
  | 'status'
  | 'cancelled'
  | 'body';

/** The headers of a response: names in lower case, the first value of each. */
export type ResponseHeaders = Readonly<Record<string, string>>;

export interface RegistryErrorInit {
  readonly kind: ErrorKind;
  readonly method: string;
  readonly url: URL;
  /** What happened, as the end of "GET https://…: ". */
  readonly reason: string;
  readonly temporary: boolean;
  readonly status?: number | undefined;
  readonly codes?: readonly RegistryCode[] | undefined;
  readonly body?: string | undefined;
  readonly headers?: ResponseHeaders | undefined;
  readonly step?: string | undefined;
  readonly remedy?: string | undefined;
  readonly cause?: unknown;
  /** No byte of the request was sent: there was no connection yet. Default: false. */
  readonly unsent?: boolean | undefined;
}

/** A request that failed, by its answer or without one. Its texts hold no secrets: see safeUrl. */
export class RegistryError extends Error {
  override readonly name = 'RegistryError';
  readonly kind: ErrorKind;
  readonly method: string;
  /** The URL without userinfo and with unknown query values left out. */
  readonly url: string;
  readonly status: number | undefined;
  /** The registry's own codes and messages. distribution-spec, section Error Codes. */
  readonly codes: readonly RegistryCode[];
  /** What the push was doing, as the log names it. */
  readonly step: string | undefined;
  readonly remedy: string | undefined;
  /** Whether the same request may succeed later. */
  readonly temporary: boolean;
  /** Kept out of sight of util.inspect: a Location may be signed. */
  readonly #init: RegistryErrorInit;

  constructor(init: RegistryErrorInit) {
    const url = safeUrl(init.url);
    const step = init.step === undefined ? '' : `${init.step}: `;
    super(`${step}${init.method} ${url}: ${init.reason}`, { cause: init.cause });
    this.kind = init.kind;
    this.method = init.method;
    this.url = url;
    this.status = init.status;
    this.codes = init.codes ?? [];
    this.#init = init;
    this.step = init.step;
    this.remedy = init.remedy;
    this.temporary = init.temporary;
  }

  /** What happened, without what was asked. */
  get reason(): string {
    return this.#init.reason;
  }

  /** Whether no byte of the request was sent: the registry knows nothing of it. */
  get unsent(): boolean {
    return this.#init.unsent ?? false;
  }

  /** The first 2 KiB of the answer's body, without known secrets. */
  get body(): string {
    return this.#init.body ?? '';
  }

  get headers(): ResponseHeaders {
    return this.#init.headers ?? {};
  }

  /** The same error with what to do about it. */
  advised(remedy: string): RegistryError {
    return new RegistryError({ ...this.#init, remedy });
  }

  /** Whether the registry named this error code (upper case, as in the specification). */
  has(code: string): boolean {
    return this.codes.some((entry) => entry.code === code);
  }
}

/** The part of a response that makes an error. */
interface FailedResponse {
  readonly status: number;
  readonly headers: ResponseHeaders;
  readonly url: URL;
  /** What to do about it, as far as the sender of the request knows. */
  readonly remedy?: string | undefined;
  /** Never rejects: what came of the body before it broke. */
  excerpt(limit: number): Promise<string>;
}

/** What the caller knows of a response that is not what it wanted. */
export interface ErrorContext {
  readonly method: string;
  readonly step?: string | undefined;
  readonly remedy?: string | undefined;
  /** Overrides what the status says: the caller may know better. */
  readonly temporary?: boolean | undefined;
  readonly kind?: ErrorKind | undefined;
}

/** Enough for every error document of a registry and for the head of an HTML page. */
const EXCERPT_BYTES = 2048;

const LIMIT_REMEDY = 'the registry limits how many requests it takes: push less often, or set a longer max-wait';

const STATUS_KINDS: Readonly<Record<number, ErrorKind>> = { 401: 'auth', 403: 'denied', 407: 'proxy' };

/**
 * Converts an answer into an error with the registry's own message; reads (the first 2 KiB of) its body. Never rejects.
 */
export async function errorOf(response: FailedResponse, context: ErrorContext): Promise<RegistryError> {
  const body = await response.excerpt(EXCERPT_BYTES);
  const codes = registryCodes(body);
  const limited = isRateLimit({ status: response.status, headers: response.headers, codes, body });
  const temporary = limited || isTransientStatus(response.status);
  return new RegistryError({
    kind: limited ? 'limited' : (context.kind ?? STATUS_KINDS[response.status] ?? 'status'),
    method: context.method,
    url: response.url,
    status: response.status,
    reason: readableReason(response.status, codes, body),
    temporary: limited || (context.temporary ?? temporary),
    codes,
    body,
    headers: response.headers,
    step: context.step,
    remedy: limited ? LIMIT_REMEDY : (context.remedy ?? response.remedy),
  });
}

// What a status code alone says about trying again.

/**
 * 408, 425, 429, 500, 502, 503, 504 of RFC 9110, 8470 and 6585; 520-527 and 530 are Cloudflare's for "the origin did
 * not answer as it should" (530: a registry behind its tunnel that is away). 501 and 505 are left out: they say that it
 * never will.
 */
const TRANSIENT: ReadonlySet<number> = new Set([
  408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 530,
]);

/** Whether the same request may get another answer later. */
export const isTransientStatus = (status: number): boolean => TRANSIENT.has(status);

// The error of an upload that can not go on.

/**
 * An upload that cannot go on for a reason that is not one answer of the registry: limits that contradict each other,
 * tries or patience that are used up.
 */
export class UploadError extends Error {
  override readonly name = 'UploadError';
  /** What to do about it, for the log's error line. */
  readonly remedy: string | undefined;

  constructor(message: string, options: { readonly remedy?: string | undefined; readonly cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.remedy = options.remedy;
  }
}

// What to do about answers that do not say it themselves.

/**
 * About a failure at another port of the registry's own host: its Location or redirect has lost the port (nginx: `Host
 * $host`).
 */
export function lostPort(registry: URL, url: URL): string | undefined {
  if (url.hostname !== registry.hostname || url.port === registry.port) return undefined;
  return (
    `the registry at ${registry.host} names ${url.host} as the place to go on: the proxy in front of it must pass on the host ` +
    'with its port (nginx: proxy_set_header Host $http_host), or the registry needs its outer address (distribution: http.host)'
  );
}

/**
 * About a 405 to what begins or ends a push. distribution in read-only mode or as a pull-through cache adds the code
 * UNSUPPORTED.
 */
export function readOnly(host: string, method: string, url: URL): string | undefined {
  if (method !== 'POST' && !(method === 'PUT' && url.pathname.includes('/manifests/'))) return undefined;
  return `${host} takes no pushes: it is read-only for now, or a pull-through cache or mirror: push to the registry behind it`;
}

/** What to do about a host whose answers are none of a registry. */
export const notRegistry = (host: string): string =>
  `${host} does not answer as a container registry: check the host and port in the reference (ghcr.io, not github.com; ` +
  'registry.gitlab.com, not gitlab.com), and the path that a proxy in front of it passes on (/v2/)';

/** What to do about a registry that has no place for a repository. */
export const unknownOwner = (host: string, repository: string): string =>
  `${host} knows no ${repository}: create the user, organisation or project ${repository.split('/')[0]} there first, or check the name`;

/** Whether an answer is a page for people. */
export const isPage = ({ headers }: { readonly headers: ResponseHeaders }): boolean =>
  /^\s*(text\/html|application\/xhtml)/i.test(headers['content-type'] ?? '');
