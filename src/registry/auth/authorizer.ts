/** Which `Authorization` a request to one registry carries: tier T0. */
import { untilAborted } from '../abort.ts';
import { basicString, type Credentials } from '../credentials/types.ts';
import { RegistryError } from '../error.ts';
import { unsafeTarget } from '../origin.ts';
import type { Secrets } from '../secrets.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import { mergeScopes, scopesOf } from './scope.ts';
import { fetchToken, TOKEN_STEP, type Token, type TokenExchange } from './token.ts';

/** A token with less than this left is renewed before it is used: a request takes a while to be looked at. */
const EARLY_MS = 60_000;

/** Of a token that lives for seconds only, a quarter: it must be used for most of its life. */
const EARLY_SHARE = 0.25;

/** How a request was authorised: kept by the caller for `renewed`. */
export interface Authorization {
  /** The header's value; undefined for none. */
  readonly header: string | undefined;
  /** The scopes of the bearer token in it. */
  readonly scopes: readonly string[];
}

interface Cached {
  readonly token: Promise<Token>;
  /** Milliseconds of our clock; Infinity while the token is on its way. */
  staleAt: number;
  header?: string;
}

export interface AuthorizerOptions {
  /** `host[:port]` as the user wrote it, for messages. */
  readonly host: string;
  readonly credentials: Credentials | undefined;
  readonly secrets: Secrets;
  /** Requests to the token server; ends with the transport, not with the request that wanted the token. */
  readonly exchange: TokenExchange;
  readonly now?: () => number;
}

export class Authorizer {
  readonly #options: AuthorizerOptions;
  readonly #now: () => number;
  readonly #tokens = new Map<string, Cached>();
  #challenge: Challenge | undefined;
  /** Scopes that a challenge named for the scopes that were asked for: a registry may know a repository by another name. */
  readonly #named = new Map<string, readonly string[]>();

  constructor(options: AuthorizerOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    const { secrets, credentials } = options;
    secrets.add(credentials?.password, credentials?.identityToken, credentials?.registryToken);
    if (credentials?.password !== undefined) secrets.add(basicString(credentials.username ?? '', credentials.password));
  }

  /** Takes note of a 401's challenges. Whether there is one that we can answer. */
  learn(wwwAuthenticate: readonly string[]): boolean {
    const challenges = parseChallenges(wwwAuthenticate);
    const bearer = challenges.find(({ scheme, parameters }) => scheme === 'bearer' && parameters.has('realm'));
    const known = bearer ?? challenges.find(({ scheme }) => scheme === 'basic');
    this.#challenge = known ?? this.#challenge;
    return known !== undefined;
  }

  /** What a request to `registry` that wants these scopes should carry. Throws RegistryError when no token is to be had. */
  async authorize(registry: URL, scopes: readonly string[], signal: AbortSignal): Promise<Authorization> {
    const { credentials } = this.#options;
    if (credentials?.registryToken !== undefined) return { header: `Bearer ${credentials.registryToken}`, scopes: [] };
    if (this.#challenge?.scheme === 'bearer') return await this.#bearer(this.#challenge, registry, scopes, signal);
    if (this.#challenge === undefined || credentials?.password === undefined) return { header: undefined, scopes: [] };
    return { header: `Basic ${basicString(credentials.username ?? '', credentials.password)}`, scopes: [] };
  }

  /**
   * After a 401 to a request that carried `used`: what to try once more, or undefined when nothing else is to be had.
   * A token that another request has renewed meanwhile is taken as it is.
   */
  async renewed(
    used: Authorization,
    registry: URL,
    scopes: readonly string[],
    wwwAuthenticate: readonly string[],
    signal: AbortSignal,
  ): Promise<Authorization | undefined> {
    if (!this.learn(wwwAuthenticate)) return undefined;
    const challenge = this.#challenge!;
    if (challenge.scheme === 'bearer') this.#forget(used, challenge, scopes);
    const next = await this.authorize(registry, scopes, signal);
    return next.header === used.header ? undefined : next;
  }

  /** What to do about a 401 or 403: which credentials were used, and how to give others. */
  remedy(): string {
    const { credentials, host } = this.#options;
    if (credentials === undefined) {
      return `no credentials for ${host} were found: set username and password, or run docker/login-action before`;
    }
    const who = credentials.username === undefined ? 'the token' : `the user ${credentials.username}`;
    return `${who} from ${credentials.source} was not accepted: check that it is right and may push to this repository`;
  }

  /** Drops the refused token, and asks for the challenge's own scopes from now on where they go beyond ours. */
  #forget(used: Authorization, challenge: Challenge, scopes: readonly string[]): void {
    const key = mergeScopes(scopes).join(' ');
    const cached = this.#tokens.get(mergeScopes(used.scopes).join(' '));
    if (cached?.header === used.header) this.#tokens.delete(mergeScopes(used.scopes).join(' '));
    const named = scopesOf(challenge.parameters.get('scope'));
    if (named.length > 0) this.#named.set(key, mergeScopes(this.#named.get(key) ?? [], named));
  }

  async #bearer(
    challenge: Challenge,
    registry: URL,
    wanted: readonly string[],
    signal: AbortSignal,
  ): Promise<Authorization> {
    const scopes = mergeScopes(wanted, this.#named.get(mergeScopes(wanted).join(' ')) ?? []);
    const key = scopes.join(' ');
    let cached = this.#tokens.get(key);
    if (cached === undefined || cached.staleAt <= this.#now()) {
      cached = this.#fetch(key, realmOf(challenge, registry), challenge.parameters.get('service'), scopes);
    }
    const token = await untilAborted(cached.token, signal);
    cached.header ??= `Bearer ${token.value}`;
    return { header: cached.header, scopes };
  }

  /** Starts one fetch for all that want these scopes. A failed one is forgotten, so that the next request tries again. */
  #fetch(key: string, realm: URL, service: string | undefined, scopes: readonly string[]): Cached {
    const { exchange, credentials, secrets } = this.#options;
    const asked = this.#now();
    const token = fetchToken(exchange, { realm, service, scopes, credentials });
    const cached: Cached = { token, staleAt: Number.POSITIVE_INFINITY };
    this.#tokens.set(key, cached);
    token.then(
      ({ value, lifetime }) => {
        secrets.add(value);
        cached.staleAt = asked + lifetime - Math.min(EARLY_MS, lifetime * EARLY_SHARE);
      },
      () => {
        if (this.#tokens.get(key) === cached) this.#tokens.delete(key);
      },
    );
    return cached;
  }
}

/** The token server's address. Throws RegistryError `unsafe` for one that must not get credentials. */
function realmOf(challenge: Challenge, registry: URL): URL {
  const realm = challenge.parameters.get('realm') ?? '';
  const url = URL.canParse(realm, registry.href) ? new URL(realm, registry) : undefined;
  const objection = url === undefined ? 'is no URL' : unsafeTarget(registry, url);
  if (url !== undefined && objection === undefined) return url;
  throw new RegistryError({
    kind: 'unsafe',
    method: 'GET',
    url: url ?? registry,
    step: TOKEN_STEP,
    reason: `the token server that ${registry.host} names ${objection}: not followed`,
    temporary: false,
    remedy:
      'check the address in the WWW-Authenticate header of the registry (and X-Forwarded-Proto in a proxy before it)',
  });
}
