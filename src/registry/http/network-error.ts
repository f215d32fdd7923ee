/** What the network did to a request, read from the error that Node.js or undici raised. */
import { TimeoutError } from './deadline.ts';
import { type ErrorKind, RegistryError } from './error.ts';
import { UNSAFE_ADDRESS } from './url-policy.ts';

/** What was being asked when it happened. */
export interface Attempt {
  readonly method: string;
  readonly url: URL;
  readonly step?: string | undefined;
  /** The address of the proxy that the request goes through, without credentials. */
  readonly proxy?: string | undefined;
}

/** What kept a request from being begun, as its cause. */
export class UnsentError extends Error {
  constructor(cause: unknown) {
    super('there was no connection', { cause });
  }
}

/** These fields and no others: the argument may be the complete request, credentials and all. */
const named = ({ method, url, step }: Attempt): Attempt => ({ method, url, step });

interface Diagnosis {
  readonly kind: ErrorKind;
  readonly temporary: boolean;
  readonly reason: string;
  readonly remedy?: string;
}

/** An error of the network as RegistryError; one that is already a RegistryError stays as it is. */
function networkError(raised: unknown, attempt: Attempt): RegistryError {
  const unsent = raised instanceof UnsentError;
  const cause = unsent ? raised.cause : raised;
  if (cause instanceof RegistryError) return cause;
  return new RegistryError({ ...named(attempt), ...diagnose(cause, attempt), cause, unsent });
}

/** Our own signal ended the request; `reason` is the signal's. */
export const cancelledError = (reason: unknown, attempt: Attempt): RegistryError =>
  new RegistryError({ ...named(attempt), kind: 'cancelled', temporary: false, reason: 'cancelled', cause: reason });

/** The first of our own signals that has ended what is under way; undefined while none has. */
export const abortedOf = (signals: readonly AbortSignal[]): AbortSignal | undefined =>
  signals.find(({ aborted }) => aborted);

/** What ended a request or its answer as RegistryError: what our own signals end is cancelled, not broken. */
export function brokenOff(cause: unknown, attempt: Attempt, signals: readonly AbortSignal[]): RegistryError {
  const aborted = abortedOf(signals);
  return aborted === undefined ? networkError(cause, attempt) : cancelledError(aborted.reason, attempt);
}

/** The bytes to send could not be read: no fault of the network, so another try is not for the transport to decide. */
export const bodyError = (cause: Error, attempt: Attempt): RegistryError =>
  new RegistryError({
    ...named(attempt),
    kind: 'body',
    temporary: false,
    reason: `the bytes to send: ${cause.message}`,
    cause,
  });

function diagnose(cause: unknown, { url, proxy }: Attempt): Diagnosis {
  if (cause instanceof TimeoutError) {
    const { phase, message } = cause;
    const reason = phase === 'connect' && proxy !== undefined ? `${message} through the proxy ${proxy}` : message;
    return { kind: 'timeout', temporary: true, reason };
  }
  const error = rootOf(cause);
  const code = error.code ?? '';
  return (
    proxyTrouble(code, error, proxy) ??
    nameTrouble(code, error, url) ??
    tlsTrouble(code, error, url) ??
    protocolTrouble(code, error) ??
    connectionTrouble(code, error, url)
  );
}

interface CodedError {
  readonly name?: string;
  readonly code?: string;
  readonly message: string;
  /** The connection to the proxy itself failed. */
  readonly isProxy?: boolean;
}

/** The first of several failed addresses (happy eyeballs), or the cause that undici wrapped. */
function rootOf(error: unknown): CodedError {
  if (error instanceof AggregateError && error.errors.length > 0) return rootOf(error.errors[0]);
  if (!(error instanceof Error)) return { message: String(error) };
  const { code, cause } = error as Error & { code?: string };
  if ((code === 'UND_ERR_PRX_TLS' || code === 'UND_ERR_PRX_CONN') && cause !== undefined) {
    return { ...rootOf(cause), isProxy: true };
  }
  return error as CodedError;
}

function nameTrouble(code: string, error: CodedError, url: URL): Diagnosis | undefined {
  if (code === 'ENOTFOUND') {
    const remedy = 'check the registry in the reference, and the DNS of this machine';
    return { kind: 'dns', temporary: false, reason: `the host ${url.hostname} is unknown`, remedy };
  }
  if (code === 'EAI_AGAIN') return { kind: 'dns', temporary: true, reason: `DNS lookup of ${url.hostname} failed` };
  if (code !== UNSAFE_ADDRESS) return undefined;
  return { kind: 'unsafe', temporary: false, reason: `${error.message}, a link-local address: not followed` };
}

const UNTRUSTED: ReadonlySet<string> = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/** The other side's first bytes are no TLS record. */
const NO_TLS: ReadonlySet<string> = new Set(['ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_SSL_PACKET_LENGTH_TOO_LONG']);

/**
 * Whether the host of this error does speak TLS, and only its certificate or version is in the way, or it closed the
 * connection after the handshake (undici reports that in its own code), as servers do that miss a client certificate.
 */
export function speaksTls(error: unknown): boolean {
  if (!(error instanceof RegistryError)) return false;
  const code = rootOf(error.cause).code ?? '';
  return (error.kind === 'tls' && !NO_TLS.has(code)) || code === 'UND_ERR_SOCKET';
}

/** Whether the host of this error answers, and not in TLS. */
export const lacksTls = (error: unknown): boolean =>
  error instanceof RegistryError && error.kind === 'tls' && NO_TLS.has(rootOf(error.cause).code ?? '');

/** Whether a certificate is not trusted for its authority alone (by OpenSSL's code): `ca-file` helps against that. */
export const isOfUnknownAuthority = (code: string): boolean => UNTRUSTED.has(code);

/** OpenSSL's verification results (X509_V_ERR_*), Node's own ERR_TLS_* and ERR_SSL_*, and the old EPROTO. */
const TLS_CODE = /^(ERR_SSL_|ERR_TLS_|CERT_|CRL_|EPROTO$|HOSTNAME_MISMATCH$|INVALID_(CA|PURPOSE)$|UNABLE_TO_)/;

/**
 * Alerts of a server that asked for a client certificate and got none, or one that it does not know (RFC 8446, 6.2).
 */
const WANTS_CERTIFICATE =
  /ALERT_(CERTIFICATE_REQUIRED|BAD_CERTIFICATE|CERTIFICATE_UNKNOWN|UNKNOWN_CA|HANDSHAKE_FAILURE|ACCESS_DENIED)$/;

/** What to do about a server that wants a client certificate. */
export const CLIENT_CERTIFICATE_REMEDY = (host: string): string =>
  `if the registry wants a client certificate, put it and its key into /etc/docker/certs.d/${host}/ ` +
  'as client.cert and client.key, as for docker';

function tlsTrouble(code: string, error: CodedError, url: URL): Diagnosis | undefined {
  if (UNTRUSTED.has(code)) {
    const remedy = 'set ca-file to the PEM certificate of the authority that signed it';
    return { kind: 'tls', temporary: false, reason: `its certificate is not trusted (${code})`, remedy };
  }
  if (NO_TLS.has(code)) {
    const remedy = 'if this registry speaks plain HTTP, set insecure: true';
    return { kind: 'tls', temporary: false, reason: `${url.host} does not answer in TLS`, remedy };
  }
  if (WANTS_CERTIFICATE.test(code)) {
    const reason = `the server refused this TLS client (${code})`;
    return { kind: 'tls', temporary: false, reason, remedy: CLIENT_CERTIFICATE_REMEDY(url.host) };
  }
  if (!TLS_CODE.test(code)) return undefined;
  return { kind: 'tls', temporary: false, reason: `TLS failed: ${error.message} (${code})` };
}

const PROXY_REMEDY = 'check HTTPS_PROXY, HTTP_PROXY and NO_PROXY';

/**
 * undici reports the proxy's refusal in the message only. A connection that could not be made is the proxy's failure
 * whenever there is a proxy: a host behind it that does not answer is a refusal by status.
 */
function proxyTrouble(code: string, error: CodedError, proxy: string | undefined): Diagnosis | undefined {
  const refused = /Proxy response \((\d+)\)|Proxy Authentication Required \((\d+)\)/.exec(error.message);
  const name = `the proxy${proxy === undefined ? '' : ` ${proxy}`}`;
  if (refused !== null) {
    const status = Number(refused[1] ?? refused[2]);
    const reason = `the proxy refused with status ${status}${proxy === undefined ? '' : ` (${proxy})`}`;
    return { kind: 'proxy', temporary: status >= 500, reason, remedy: PROXY_REMEDY };
  }
  const isUnreached = proxy !== undefined && (UNREACHABLE.has(code) || NAMELESS.has(code) || isTimeout(code));
  if (isUnreached)
    return {
      kind: 'proxy',
      temporary: code !== 'ENOTFOUND',
      reason: `no connection to ${name} (${code})`,
      remedy: PROXY_REMEDY,
    };
  if (error.isProxy !== true && !/^UND_ERR_(PRX_|SOCKS5)/.test(code)) return undefined;
  return { kind: 'proxy', temporary: true, reason: `${name} hung up: ${error.message}`, remedy: PROXY_REMEDY };
}

/** DNS has no address. */
const NAMELESS: ReadonlySet<string> = new Set(['ENOTFOUND', 'EAI_AGAIN']);

const isTimeout = (code: string): boolean => code === 'ETIMEDOUT' || code.endsWith('_TIMEOUT');

function protocolTrouble(code: string, error: CodedError): Diagnosis | undefined {
  if (code === 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH') {
    return { kind: 'body', temporary: false, reason: 'the bytes to send are not as many as was said' };
  }
  if (code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH') {
    return { kind: 'reset', temporary: true, reason: 'the answer broke off in the middle' };
  }
  if (error.name !== 'HTTPParserError' && code !== 'UND_ERR_HEADERS_OVERFLOW') return undefined;
  return { kind: 'protocol', temporary: true, reason: `the answer is not HTTP (${error.message})` };
}

const UNREACHABLE: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EHOSTDOWN',
  'ENETDOWN',
]);

/**
 * A connection that was there and is gone; UND_ERR_SOCKET is undici's "other side closed", also of a kept connection
 * just as it was used.
 */
const BROKEN: ReadonlySet<string> = new Set([
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'UND_ERR_SOCKET',
  'UND_ERR_ABORTED',
]);

function connectionTrouble(code: string, error: CodedError, url: URL): Diagnosis {
  if (isTimeout(code)) return { kind: 'timeout', temporary: true, reason: `timed out (${code})` };
  if (UNREACHABLE.has(code)) {
    const remedy = 'check the host and port of the registry, and that it runs';
    return { kind: 'refused', temporary: true, reason: `no connection to ${url.host} (${code})`, remedy };
  }
  const reason = `the connection broke: ${error.message.includes(code) ? error.message : `${error.message} (${code})`}`;
  if (BROKEN.has(code)) return { kind: 'reset', temporary: true, reason };
  return { kind: 'protocol', temporary: false, reason: `the request could not be made: ${error.message}` };
}
