/**
 * Which `Authorization` a request to one registry carries: a new token is asked for between requests, and once after a
 * 401 in the middle.
 */
import { RegistryError } from '../http/error.ts';

import { unsafeTarget } from '../http/url-policy.ts';
import { type Challenge, mergeScopes, parseChallenges, scopesOf } from './challenge.ts';
import { basicString, type Credentials, type Secrets, TOKEN_USERNAME } from './credentials.ts';
import { fetchToken, TOKEN_STEP, TokenCache, type TokenExchange } from './token.ts';

/** How a request was authorised: kept by the caller for `renewed`. */
export interface Authorization {
  /** The header's value; undefined for none. */
  readonly header: string | undefined;
  /** The scopes of the bearer token in it. */
  readonly scopes: readonly string[];
  /** Whether that token was asked for with all that the push will need, and not for this request alone. */
  readonly isShared?: boolean;
}

/** The request that is to be authorised. */
export interface Wanted {
  readonly method: string;
  /** The registry's origin. */
  readonly registry: URL;
  readonly scopes: readonly string[];
  readonly signal: AbortSignal;
}

interface AuthorizerOptions {
  /** `host[:port]` as the user wrote it, for messages. */
  readonly host: string;
  readonly credentials: Credentials | undefined;
  /** Sources of credentials that could not be used. */
  readonly problems?: readonly string[] | undefined;
  /** The registry that the inputs `username` and `password` are for, where it is another one: for remedies. */
  readonly inputsAreFor?: string | undefined;
  readonly secrets: Secrets;
  /** Requests to the token server; they end with the transport, not with the request that wanted the token. */
  readonly exchange: TokenExchange;
}

const NOTHING: Authorization = { header: undefined, scopes: [] };

export class Authorizer {
  readonly #options: AuthorizerOptions;
  readonly #tokens = new TokenCache();
  #challenge: Challenge | undefined;
  /** The schemes of the last challenges, when there was none that we know. */
  #unknown: readonly string[] = [];
  /**
   * Scopes that a challenge named beyond those that we ask for by ourselves: a registry may know a repository by
   * another name.
   */
  readonly #named = new Map<string, readonly string[]>();
  /** The scopes that all requests of the push need together. */
  #expected: readonly string[] = [];
  /** Requests that a shared token was good for. */
  readonly #accepted = new Set<string>();
  /** Requests that need a token of their own: the shared one was refused there. */
  readonly #apart = new Set<string>();
  /** The token server refuses a token for all scopes together. */
  #isRefusedTogether = false;

  constructor(options: AuthorizerOptions) {
    this.#options = options;
    const { secrets } = options;
    const { username = '', password, identityToken, registryToken } = options.credentials ?? {};
    secrets.add(password, identityToken, registryToken);
    if (password !== undefined) secrets.add(basicString(username, password));
    if (identityToken !== undefined) secrets.add(basicString(TOKEN_USERNAME, identityToken));
  }

  /** Takes note of a 401's challenges (Bearer before Basic). Returns whether there is one that we can answer. */
  noteChallenges(wwwAuthenticate: readonly string[]): boolean {
    const challenges = parseChallenges(wwwAuthenticate);
    const bearer = challenges.find(({ scheme, parameters }) => scheme === 'bearer' && parameters.has('realm'));
    const known = bearer ?? challenges.find(({ scheme }) => scheme === 'basic');
    this.#challenge = known ?? this.#challenge;
    this.#unknown = known === undefined ? challenges.map(({ scheme }) => scheme) : [];
    return known !== undefined;
  }

  /** How the registry asks who we are, as its last challenge says; undefined when it did not ask. */
  get scheme(): string | undefined {
    return this.#challenge?.scheme;
  }

  /** Names the scopes of requests to come: one token is asked for all of them. */
  expect(scopes: readonly string[]): void {
    this.#expected = mergeScopes(this.#expected, scopes);
  }

  /** A request that carried `used` was not answered with 401. */
  accepted(used: Authorization, wanted: Wanted): void {
    if (used.isShared) this.#accepted.add(keyOf(wanted));
  }

  /** What a request should carry. Throws RegistryError when no token is to be had; rejects with the signal's reason. */
  async authorize(wanted: Wanted): Promise<Authorization> {
    const { username = '', password, registryToken } = this.#options.credentials ?? {};
    if (registryToken !== undefined) return { header: `Bearer ${registryToken}`, scopes: [] };
    if (this.#challenge?.scheme === 'bearer') return await this.#bearer(this.#challenge, wanted);
    if (this.#challenge === undefined || password === undefined) return NOTHING;
    return { header: `Basic ${basicString(username, password)}`, scopes: [] };
  }

  /**
   * After a 401 to a request that carried `used`: what to try once more, or undefined when nothing else is to be had.
   * A token that another request has renewed meanwhile is taken as it is.
   */
  async renewed(
    used: Authorization,
    wanted: Wanted,
    wwwAuthenticate: readonly string[],
  ): Promise<Authorization | undefined> {
    if (!this.noteChallenges(wwwAuthenticate)) return undefined;
    // Some token servers look at the first scope only; a token that was good before has ended.
    const isApart = used.isShared === true && !this.#accepted.has(keyOf(wanted));
    if (isApart) this.#apart.add(keyOf(wanted));
    const named = scopesOf(this.#challenge?.parameters.get('scope'));
    const beyond = mergeScopes(used.scopes, named).join(' ') !== used.scopes.join(' ');
    // A token that lacks a scope is still good for the requests that it was fetched for.
    if (beyond) this.#remember(wanted, named);
    else if (used.header !== undefined && !isApart) this.#tokens.forget(used.scopes.join(' '), used.header);
    const next = await this.authorize(wanted);
    return next.header === used.header ? undefined : next;
  }

  /** What to do about a 401 or 403: which credentials were used, and how to set others. */
  remedy(status: number): string {
    const { credentials, host, problems = [], inputsAreFor } = this.#options;
    const broken = problems.length === 0 ? '' : ` (not used: ${problems.join('; ')})`;
    if (status === 401 && this.#unknown.length > 0) {
      return `${host} asks for ${this.#unknown.join(', ')}: only Basic and Bearer can be answered`;
    }
    if (credentials === undefined) {
      const how =
        inputsAreFor === undefined
          ? 'set username and password, or run docker/login-action before'
          : `run docker/login-action for it before (username and password are for ${inputsAreFor})`;
      return `no credentials for ${host} were found: ${how}${broken}`;
    }
    const who = credentials.username === undefined ? 'the token' : `the user ${credentials.username}`;
    return `${who} from ${credentials.source} was used: check that it is right and may ${inputsAreFor === undefined ? 'push to' : 'use'} this repository${broken}`;
  }

  /** The method is part of it: a registry that wants `delete` for a DELETE must not get it asked for each PATCH. */
  #remember(wanted: Wanted, named: readonly string[]): void {
    this.#named.set(keyOf(wanted), mergeScopes(this.#named.get(keyOf(wanted)) ?? [], named));
  }

  async #bearer(challenge: Challenge, wanted: Wanted): Promise<Authorization> {
    const own = mergeScopes(wanted.scopes, this.#named.get(keyOf(wanted)) ?? []);
    const shared = mergeScopes(this.#expected, own);
    const isShared = shared.join(' ') !== own.join(' ') && !this.#isRefusedTogether && !this.#apart.has(keyOf(wanted));
    if (!isShared) return await this.#fetched(challenge, wanted, own);
    try {
      return { ...(await this.#fetched(challenge, wanted, shared)), isShared };
    } catch (error) {
      // One of the scopes may be what the user is not allowed to have.
      if (!(error instanceof RegistryError) || error.kind !== 'auth') throw error;
      this.#isRefusedTogether = true;
      return await this.#fetched(challenge, wanted, own);
    }
  }

  async #fetched(challenge: Challenge, wanted: Wanted, scopes: readonly string[]): Promise<Authorization> {
    const { credentials, exchange, secrets } = this.#options;
    const realm = realmOf(challenge, wanted.registry);
    const service = challenge.parameters.get('service');
    const remedy = this.remedy(401);
    const token = await this.#tokens.get(scopes.join(' '), wanted.signal, async () => {
      const fetched = await fetchToken(exchange, { realm, service, scopes, credentials, remedy });
      secrets.add(fetched.value);
      return fetched;
    });
    return { header: `Bearer ${token}`, scopes };
  }
}

const keyOf = ({ method, scopes }: Wanted): string => `${method} ${mergeScopes(scopes).join(' ')}`;

/** The token server's address. Throws RegistryError `unsafe` for one that must not get credentials. */
function realmOf(challenge: Challenge, registry: URL): URL {
  const realm = challenge.parameters.get('realm') ?? '';
  const url = URL.canParse(realm, registry.href) ? new URL(realm, registry) : undefined;
  const problem = url === undefined ? 'is no URL' : unsafeTarget(registry, url);
  if (url !== undefined && problem === undefined) return url;
  throw new RegistryError({
    kind: 'unsafe',
    method: 'GET',
    url: url ?? registry,
    step: TOKEN_STEP,
    reason: `the token server that ${registry.host} names ${problem}: not followed`,
    temporary: false,
    remedy:
      'check the realm in the WWW-Authenticate header of the registry (and X-Forwarded-Proto in a proxy before it)',
  });
}
