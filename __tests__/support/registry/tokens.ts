/** The token endpoint and the check of its tokens. distribution docs, "Token Authentication Specification" and "OAuth2". */
import { randomUUID } from 'node:crypto';
import { type Answer, refusal } from './answer.ts';
import { type Action, type AuthCounts, authorization } from './auth.ts';
import { type Exchange, readAll } from './exchange.ts';

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
    if (token === undefined || token.expires <= Date.now()) {
      return challenge(exchange, needed, value === '' ? '' : 'invalid_token');
    }
    const enough = needed.every(([name, wanted]) => wanted.every((action) => token.access.get(name)?.has(action)));
    return enough ? undefined : challenge(exchange, needed, 'insufficient_scope');
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

function challenge(exchange: Exchange, needed: readonly [string, readonly Action[]][], error: string): Answer {
  const scope = needed.map(([name, actions]) => `repository:${name}:${actions.join(',')}`).join(' ');
  const parts = [`realm="${exchange.origin}/token"`, `service="${SERVICE}"`];
  if (scope !== '') parts.push(`scope="${scope}"`);
  if (error !== '') parts.push(`error="${error}"`);
  const headers = { 'WWW-Authenticate': `Bearer ${parts.join(',')}` };
  return refusal(401, 'UNAUTHORIZED', 'authentication required', null, headers);
}
