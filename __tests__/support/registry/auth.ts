/** Who may do what: nobody asks, a password, or tokens. RFC 7617, RFC 6750, and distribution's docs "Token Authentication". */
import { type Answer, refusal } from './answer.ts';
import type { Exchange } from './exchange.ts';
import type { Habits } from './quirk.ts';
import { type BearerOptions, TokenService } from './tokens.ts';

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
