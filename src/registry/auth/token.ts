/**
 * Bearer tokens of a token server: GET as in https://distribution.github.io/distribution/spec/auth/token/,
 * POST as in https://distribution.github.io/distribution/spec/auth/oauth/.
 */
import { now as clock, untilAborted } from '../../common/async.ts';
import { errorOf, RegistryError } from '../http/error.ts';
import type { RegistryResponse } from '../http/response.ts';
import { basicString, type Credentials, TOKEN_USERNAME } from './credentials.ts';

/** The specification's default where `expires_in` is missing. */
const DEFAULT_LIFETIME_S = 60;

/** A day: a larger number is a mistake, and a token costs little. */
const LONGEST_LIFETIME_S = 86_400;

const LONGEST_ANSWER_BYTES = 1024 * 1024;

/** OAuth asks for a name of the client, which registries log. */
const CLIENT_ID = 'chunked-push';

export const TOKEN_STEP = 'asking for a token';

/** What a challenge asks for. */
interface TokenRequest {
  readonly realm: URL;
  readonly service: string | undefined;
  readonly scopes: readonly string[];
  readonly credentials: Credentials | undefined;
  /** What to do when the server refuses the credentials. */
  readonly remedy: string;
}

/** A token and how long it is good for, in milliseconds from when it was asked for. */
interface Token {
  readonly value: string;
  readonly lifetime: number;
}

/** A request to the token server. Its answer may have any status; network trouble throws RegistryError. */
export type TokenExchange = (request: {
  readonly method: 'GET' | 'POST';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  readonly step: string;
}) => Promise<RegistryResponse>;

type Ask = (exchange: TokenExchange, request: TokenRequest) => Promise<RegistryResponse>;

/** Gets a token. Throws RegistryError: the server's refusal, or an answer without a token. */
export async function fetchToken(exchange: TokenExchange, request: TokenRequest): Promise<Token> {
  let response = await preferred(request)(exchange, request);
  const other = fallback(request);
  if ((response.status === 404 || response.status === 405) && other !== undefined) {
    await response.discard();
    response = await other(exchange, request);
  }
  if (response.status !== 200) throw await refusal(response, request.remedy);
  return readToken(response, await response.text(LONGEST_ANSWER_BYTES));
}

/** RFC 6749, 5.2: wrong credentials may be a 400 as well. */
const REFUSED: ReadonlySet<number> = new Set([400, 401, 403]);

async function refusal(response: RegistryResponse, remedy: string): Promise<RegistryError> {
  const context = { method: response.method, step: TOKEN_STEP };
  return await errorOf(response, REFUSED.has(response.status) ? { ...context, kind: 'auth', remedy } : context);
}

/** An identity token is only known to the OAuth form; everything else works with GET everywhere. */
const preferred = ({ credentials }: TokenRequest): Ask => (credentials?.identityToken === undefined ? ask : askOAuth);

/** The other form, for a server that does not know the first: nothing to fall back on without credentials. */
const fallback = ({ credentials }: TokenRequest): Ask | undefined =>
  credentials === undefined ? undefined : credentials.identityToken === undefined ? askOAuth : ask;

const ask: Ask = (exchange, { realm, service, scopes, credentials }) => {
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.set('service', service);
  for (const scope of scopes) url.searchParams.append('scope', scope);
  if (credentials?.username !== undefined) url.searchParams.set('account', credentials.username);
  const basic = basicOf(credentials);
  const headers = basic === undefined ? {} : { authorization: `Basic ${basic}` };
  return exchange({ method: 'GET', url, headers, step: TOKEN_STEP });
};

/** What GET can do with credentials: an identity token goes as the password of the user `<token>`. */
function basicOf(credentials: Credentials | undefined): string | undefined {
  if (credentials?.identityToken !== undefined) return basicString(TOKEN_USERNAME, credentials.identityToken);
  if (credentials?.password === undefined) return undefined;
  return basicString(credentials.username ?? '', credentials.password);
}

const askOAuth: Ask = (exchange, { realm, service, scopes, credentials }) => {
  const form = new URLSearchParams({ client_id: CLIENT_ID });
  if (service !== undefined) form.set('service', service);
  if (scopes.length > 0) form.set('scope', scopes.join(' '));
  if (credentials?.identityToken !== undefined) {
    form.set('grant_type', 'refresh_token');
    form.set('refresh_token', credentials.identityToken);
  } else {
    form.set('grant_type', 'password');
    form.set('username', credentials?.username ?? '');
    form.set('password', credentials?.password ?? '');
  }
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  return exchange({ method: 'POST', url: realm, headers, body: Buffer.from(form.toString()), step: TOKEN_STEP });
};

function readToken(response: RegistryResponse, text: string): Token {
  const answer = parse(text);
  const value = [answer?.token, answer?.access_token].find((field) => typeof field === 'string' && field !== '');
  if (answer === undefined || typeof value !== 'string' || /[^\x21-\x7e]/.test(value)) {
    throw new RegistryError({
      kind: 'protocol',
      method: response.method,
      url: response.url,
      status: response.status,
      step: TOKEN_STEP,
      reason: 'the answer holds no token',
      temporary: false,
    });
  }
  return { value, lifetime: lifetimeOf(answer, response.headers.date) };
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * `expires_in` counts from `issued_at`, which lies in the past when the server hands out a token out of its cache.
 * Both times are the server's, so its own Date header shows the age whatever our clock says.
 */
function lifetimeOf(answer: Record<string, unknown>, date: string | undefined): number {
  const seconds = Number(answer.expires_in ?? DEFAULT_LIFETIME_S);
  const stated = seconds > 0 ? Math.min(seconds, LONGEST_LIFETIME_S) * 1000 : DEFAULT_LIFETIME_S * 1000;
  const age = date === undefined ? Number.NaN : Date.parse(date) - Date.parse(String(answer.issued_at));
  return age > 0 && age < stated ? stated - age : stated;
}

// Bearer tokens by their scopes: one fetch for all that want the same, and a new one before the old one ends.

/** A token with less than this left is renewed before it is used: a request takes a while until it is looked at. */
const EARLY_MS = 60_000;

/** Of a token that lives for seconds only, a quarter: it must be used for most of its life. */
const EARLY_SHARE = 0.25;

interface Entry {
  readonly token: Promise<Token>;
  /** When it is to be renewed, in milliseconds of our clock; Infinity while it is on its way. */
  staleAt: number;
  /** Set when it is there. */
  value?: string;
}

export class TokenCache {
  readonly #entries = new Map<string, Entry>();
  readonly #now: () => number;

  /** `now`: milliseconds that only go forward. */
  constructor(now: () => number = clock) {
    this.#now = now;
  }

  /**
   * The token for these scopes, fetched when there is none that is good for long enough. Rejects as `fetch` does, or
   * with the signal's reason.
   */
  async get(scopes: string, signal: AbortSignal, fetch: () => Promise<Token>): Promise<string> {
    const known = this.#entries.get(scopes);
    const entry = known !== undefined && known.staleAt > this.#now() ? known : this.#start(scopes, fetch);
    return (await untilAborted(entry.token, signal)).value;
  }

  /** Drops the token that was in this header, if it is still the one in use. */
  forget(scopes: string, header: string): void {
    const value = this.#entries.get(scopes)?.value;
    if (value !== undefined && header === `Bearer ${value}`) this.#entries.delete(scopes);
  }

  /** A failed fetch is forgotten, so that the next request tries again. */
  #start(scopes: string, fetch: () => Promise<Token>): Entry {
    const asked = this.#now();
    const entry: Entry = { token: fetch(), staleAt: Number.POSITIVE_INFINITY };
    this.#entries.set(scopes, entry);
    entry.token.then(
      ({ value, lifetime }) => {
        entry.value = value;
        entry.staleAt = asked + lifetime - Math.min(EARLY_MS, lifetime * EARLY_SHARE);
      },
      () => {
        if (this.#entries.get(scopes) === entry) this.#entries.delete(scopes);
      },
    );
    return entry;
  }
}
