/** A registry with a token server in one loopback server, whose tokens, lifetimes and moods a test sets. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Loopback, read, serve } from './loopback.ts';

export interface TokenRegistry extends Loopback {
  /** Requests to `/token`, with what was in them. */
  readonly asked: {
    method: string;
    query: URLSearchParams;
    authorization: string | undefined;
    form: URLSearchParams;
  }[];
  /** 401 answers to requests other than the first `GET /v2/`. */
  refusals: number;
  /** The number of requests that were let in. */
  admitted: number;
}

export interface TokenMoods {
  /** Seconds that a token is good for. */
  readonly lifetime?: number;
  /** Fields of the token answer besides the token. */
  readonly answer?: Record<string, unknown>;
  /** Handles `/token` in another way; false to go on. */
  token?(request: IncomingMessage, response: ServerResponse, form: URLSearchParams): boolean;
  /** The challenge's parameters besides realm. */
  readonly challenge?: string;
  readonly realm?: string;
  /** The scopes that a token must have for a request. */
  needs?(request: IncomingMessage): string;
}

/** Starts it. A token is good when it is known, young enough, and its scopes have all that `needs` says. */
export async function tokenRegistry(moods: TokenMoods = {}): Promise<TokenRegistry> {
  const tokens = new Map<string, { until: number; scopes: string }>();
  const asked: TokenRegistry['asked'] = [];
  const { lifetime = 300, answer = { expires_in: lifetime }, challenge = 'service="test"' } = moods;

  const giveToken = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const query = new URL(request.url!, 'http://x').searchParams;
    const form = new URLSearchParams((await read(request)).toString());
    asked.push({ method: request.method!, query, authorization: request.headers.authorization, form });
    if (moods.token?.(request, response, form)) return;
    const token = `tok-${tokens.size + 1}-secret`;
    const scopes = [...query.getAll('scope'), form.get('scope') ?? ''].join(' ');
    tokens.set(token, { until: Date.now() + lifetime * 1000, scopes });
    response.end(JSON.stringify({ token, ...answer }));
  };

  const server = await serve(
    async (request, response) => {
      if (request.url!.startsWith('/token')) return await giveToken(request, response);
      const token = tokens.get(request.headers.authorization?.replace('Bearer ', '') ?? '');
      const needed = moods.needs?.(request) ?? '';
      request.resume();
      if (token !== undefined && token.until > Date.now() && token.scopes.includes(needed)) {
        registry.admitted++;
        return void response.writeHead(200).end();
      }
      if (request.url !== '/v2/') registry.refusals++;
      const realm = moods.realm ?? `http://${request.headers.host}/token`;
      const scope = needed === '' ? '' : `,scope="${needed}",error="${token ? 'insufficient_scope' : 'invalid_token'}"`;
      response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}",${challenge}${scope}` });
      response.end('{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}');
    },
    { ping: true },
  );
  const registry: TokenRegistry = { ...server, asked, refusals: 0, admitted: 0 };
  return registry;
}
