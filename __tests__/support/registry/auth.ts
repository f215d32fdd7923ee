/** Who may do what: nobody asks, a password, or tokens. RFC 7617, RFC 6750, and distribution's docs "Token Authentication". */

import { randomUUID } from 'node:crypto';
import { type Answer, refusal } from './answer.ts';
import { type Exchange, readAll } from './exchange.ts';
import type { Habits } from './quirk.ts';

export type Action = 'pull' | 'push' | 'delete';

export interface BasicOptions {
  readonly username: string;
  readonly password: string;
  /** What these credentials may do; both unless told. With `['push']` alone, HEAD works and GET is refused. */
  readonly may?: readonly ('pull' | 'push')[];
}

export type AuthOptions = 'none' | { readonly basic: BasicOptions } | { readonly bearer: BearerOptions };

/** What tests count. */
export interface AuthCounts {
  /** Requests that were answered 401, those to the token endpoint left out. */
  unauthorized: number;
  /** 401s by the token that came with the request. */
  readonly unauthorizedByToken: Map<string, number>;
  /** Tokens that were given out. */
  tokens: number;
  /** Requests to the token endpoint, refused ones too. */
  tokenRequests: number;
}

/** Lets a request through (undefined) or refuses it. */
export type Guard = (exchange: Exchange) => Answer | undefined;

export const newCounts = (): AuthCounts => ({
  unauthorized: 0,
  unauthorizedByToken: new Map(),
  tokens: 0,
  tokenRequests: 0,
});

const unauthorized = (challenge: string): Answer =>
  refusal(401, 'UNAUTHORIZED', 'authentication required', null, { 'WWW-Authenticate': challenge });

/** Scheme and credentials of the Authorization header. */
export function authorization(exchange: Exchange): { scheme: string; value: string } {
  const [scheme = '', value = ''] = (exchange.headers.authorization ?? '').split(' ');
  return { scheme, value };
}

/** What a request needs to be allowed in its repository. */
export function neededActions(exchange: Exchange, habits: Habits): readonly Action[] {
  if (exchange.route.step === 'upload-delete') return [habits.cancelNeeds];
  if (exchange.method === 'GET' || exchange.method === 'HEAD') return ['pull'];
  return exchange.method === 'DELETE' ? ['delete'] : ['pull', 'push'];
}

export function basicGuard(options: BasicOptions, habits: Habits): Guard {
  const expected = Buffer.from(`${options.username}:${options.password}`).toString('base64');
  const may = options.may ?? ['pull', 'push'];
  return (exchange) => {
    const { scheme, value } = authorization(exchange);
    const named = habits.foldsSchemeCase ? scheme.toLowerCase() === 'basic' : scheme === 'Basic';
    const pulls = exchange.method === 'GET' && exchange.route.step !== 'ping';
    const allowed =
      exchange.method === 'HEAD' || may.includes(pulls ? 'pull' : 'push') || exchange.route.step === 'ping';
    return named && value === expected && allowed ? undefined : unauthorized(habits.basicChallenge(exchange));
  };
}

/** The guard that an option asks for, and the token endpoint when there is one. */
export function authFrom(
  options: AuthOptions,
  habits: Habits,
  counts: AuthCounts,
): { guard: Guard; tokens: TokenService | undefined } {
  if (options === 'none') return { guard: () => undefined, tokens: undefined };
  if ('basic' in options) return { guard: basicGuard(options.basic, habits), tokens: undefined };
  const tokens = new TokenService(options.bearer, counts);
  return { guard: (exchange) => tokens.check(exchange, neededActions(exchange, habits)), tokens };
}

/** Keeps count of the refusals of a guard. */
export const counting =
  (guard: Guard, counts: AuthCounts): Guard =>
  (exchange) => {
    const refused = guard(exchange);
    if (refused?.status !== 401) return refused;
    counts.unauthorized += 1;
    const { value } = authorization(exchange);
    if (value !== '') counts.unauthorizedByToken.set(value, (counts.unauthorizedByToken.get(value) ?? 0) + 1);
    return refused;
  };

/** The token endpoint and the check of its tokens. distribution docs, "Token Authentication Specification" and "OAuth2". */

export interface BearerOptions {
  /** Who may log in; without them only `anonymous` counts. */
  readonly username?: string;
  readonly password?: string;
  /** Taken by POST with grant_type=refresh_token, and given out with a password grant. */
  readonly refreshToken?: string;
  /** How long a token is good for; 60 unless told. */
  readonly lifetimeSeconds?: number;
  /** Whether `expires_in` is told; yes unless told. Without it a client has to take 60 s. */
  readonly tellsLifetime?: boolean;
  /** What may be done without credentials; nothing unless told. */
  readonly anonymous?: readonly Action[];
  /** The origin of the token server as challenges name it; the registry's own unless told. */
  readonly tokenServer?: () => string;
  /** Repositories that nobody gets a token for. */
  readonly closed?: readonly string[];
}

type Access = ReadonlyMap<string, ReadonlySet<Action>>;

interface Token {
  readonly access: Access;
  /** ms since the epoch. */
  readonly expires: number;
}

const SERVICE = 'registry.test';
const DEFAULT_LIFETIME_SECONDS = 60;

/** `repository:NAME:pull,push` scopes, several in one text or in several. */
function parseScopes(scopes: readonly string[]): [string, Action[]][] {
  const parsed: [string, Action[]][] = [];
  for (const scope of scopes.flatMap((text) => text.split(' '))) {
    const match = /^repository:(.+):([a-z,*]+)$/.exec(scope);
    if (match !== null) parsed.push([match[1] ?? '', (match[2] ?? '').split(',') as Action[]]);
  }
  return parsed;
}

export class TokenService {
  readonly #options: BearerOptions;
  readonly #counts: AuthCounts;
  readonly #tokens = new Map<string, Token>();

  constructor(options: BearerOptions, counts: AuthCounts) {
    this.#options = options;
    this.#counts = counts;
  }

  /** Lets a request through whose token is good for it; else the challenge that says what is needed. */
  check(exchange: Exchange, actions: readonly Action[]): Answer | undefined {
    const { scheme, value } = authorization(exchange);
    const token = scheme.toLowerCase() === 'bearer' ? this.#tokens.get(value) : undefined;
    const needed = neededAccess(exchange, actions);
    const tokenServer = this.#options.tokenServer?.() ?? exchange.origin;
    if (token === undefined || token.expires <= Date.now()) {
      return challenge(tokenServer, needed, value === '' ? '' : 'invalid_token');
    }
    const enough = needed.every(([name, wanted]) => wanted.every((action) => token.access.get(name)?.has(action)));
    return enough ? undefined : challenge(tokenServer, needed, 'insufficient_scope');
  }

  /** GET and POST of the token endpoint. */
  async answer(exchange: Exchange): Promise<Answer> {
    this.#counts.tokenRequests += 1;
    const form = new URLSearchParams((await readAll(exchange)).toString('utf8'));
    const asked = exchange.method === 'POST' ? form : exchange.query;
    const who = exchange.method === 'POST' ? this.#byForm(form) : this.#byHeader(exchange);
    if (who === 'wrong') return refusal(401, 'UNAUTHORIZED', 'incorrect username or password');
    const access = this.#grant(parseScopes(asked.getAll('scope')), who);
    return this.#issue(access, exchange.method === 'POST', form.get('grant_type') === 'password');
  }

  #byHeader(exchange: Exchange): 'user' | 'nobody' | 'wrong' {
    const { scheme, value } = authorization(exchange);
    if (scheme === '') return 'nobody';
    const { username, password } = this.#options;
    if (scheme.toLowerCase() !== 'basic' || username === undefined) return 'wrong';
    return Buffer.from(value, 'base64').toString('utf8') === `${username}:${password}` ? 'user' : 'wrong';
  }

  #byForm(form: URLSearchParams): 'user' | 'wrong' {
    const { username, password, refreshToken } = this.#options;
    if (form.get('grant_type') === 'refresh_token') {
      return refreshToken !== undefined && form.get('refresh_token') === refreshToken ? 'user' : 'wrong';
    }
    const known = username !== undefined && form.get('username') === username && form.get('password') === password;
    return form.get('grant_type') === 'password' && known ? 'user' : 'wrong';
  }

  /** The part of what is asked that may be had: as the specification wants it, less is no error. */
  #grant(scopes: readonly [string, Action[]][], who: 'user' | 'nobody'): Access {
    const access = new Map<string, Set<Action>>();
    for (const [name, actions] of scopes) {
      if (this.#options.closed?.includes(name)) continue;
      const allowed = who === 'user' ? actions : actions.filter((one) => this.#options.anonymous?.includes(one));
      access.set(name, new Set([...(access.get(name) ?? []), ...allowed]));
    }
    return access;
  }

  #issue(access: Access, oauth: boolean, offline: boolean): Answer {
    this.#counts.tokens += 1;
    const token = randomUUID();
    const seconds = this.#options.lifetimeSeconds ?? DEFAULT_LIFETIME_SECONDS;
    this.#tokens.set(token, { access, expires: Date.now() + seconds * 1000 });
    const body = {
      [oauth ? 'access_token' : 'token']: token,
      ...(this.#options.tellsLifetime === false ? {} : { expires_in: seconds }),
      issued_at: new Date().toISOString(),
      ...(offline && this.#options.refreshToken !== undefined ? { refresh_token: this.#options.refreshToken } : {}),
    };
    return { status: 200, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
  }
}

/** What a request needs, by repository: a mount also needs to pull from its source, as distribution has it. */
function neededAccess(exchange: Exchange, actions: readonly Action[]): [string, readonly Action[]][] {
  const { step, repository } = exchange.route;
  if (repository === '') return [];
  const from = exchange.query.get('from');
  const source: [string, readonly Action[]][] = step === 'upload-mount' && from !== null ? [[from, ['pull']]] : [];
  return [[repository, actions], ...source];
}

function challenge(tokenServer: string, needed: readonly [string, readonly Action[]][], error: string): Answer {
  const scope = needed.map(([name, actions]) => `repository:${name}:${actions.join(',')}`).join(' ');
  const parts = [`realm="${tokenServer}/token"`, `service="${SERVICE}"`];
  if (scope !== '') parts.push(`scope="${scope}"`);
  if (error !== '') parts.push(`error="${error}"`);
  const headers = { 'WWW-Authenticate': `Bearer ${parts.join(',')}` };
  return refusal(401, 'UNAUTHORIZED', 'authentication required', null, headers);
}
