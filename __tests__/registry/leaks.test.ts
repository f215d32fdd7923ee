/** No secret leaves the transport: not in an error's texts, not in an inspected error, not in an event other than its announcement. */
import { inspect } from 'node:util';
import { expect, it } from 'vitest';
import type { TransportEvent } from '../../src/registry/host/sender.ts';
import { errorOf, type RegistryError } from '../../src/registry/http/error.ts';
import { caught, connect, never, read, serve } from './helpers/loopback.ts';
import { tokenRegistry } from './helpers/token-registry.ts';

const PASSWORD = 'pa55/word+secret';
const BASIC = Buffer.from(`bob:${PASSWORD}`).toString('base64');
const IDENTITY = 'identity-secret';
const SIGNATURE = 'signature-secret';
const SECRETS = [PASSWORD, BASIC, IDENTITY, SIGNATURE, 'tok-1-secret', 'tok-2-secret', encodeURIComponent(PASSWORD)];

/** What a log could show of errors and events: messages, stacks, everything that inspect shows. */
function visible(errors: readonly RegistryError[], events: readonly TransportEvent[]): string {
  const told = events.filter(({ type }) => type !== 'secret');
  return [
    ...errors.map(
      (error) =>
        `${inspect(error, { depth: 9 })} ${error.stack} ${JSON.stringify(error)} ${error.body} ${error.kind === 'status' ? '' : JSON.stringify(error.headers)}`,
    ),
    inspect(told),
  ].join(' ');
}

function expectClean(text: string): void {
  for (const secret of SECRETS) expect(text).not.toContain(secret);
}

it.each([
  { source: 'inputs', username: 'bob', password: PASSWORD },
  { source: 'config', identityToken: IDENTITY },
])(
  'with credentials from $source: tokens, signed addresses, and servers that echo what they got',
  async (credentials) => {
    // A signed upload address, and a body that repeats the request's own headers.
    const registry = await tokenRegistry({ lifetime: 300 });
    const echo = await serve(async (request, response) => {
      // Never answered: whoever asks for it is still waiting when the signal comes.
      if (request.url === '/silent') return;
      const sent = (await read(request)).toString();
      response.writeHead(400, {
        location: `/up?_state=${SIGNATURE}`,
        warning: `299 - "${request.headers.authorization}"`,
      });
      response.end(JSON.stringify({ errors: [{ code: 'X', message: `${request.headers.authorization} ${sent}` }] }));
    });
    const first = connect(registry.host, { credentials });
    const url = first.url(`/v2/a?_state=${SIGNATURE}`);
    const answered = await first.transport.send({
      method: 'PATCH',
      url,
      scopes: ['repository:a:push'],
      signal: never(),
    });
    const denied = await errorOf(answered, { method: 'PATCH', step: 'sending a chunk' });

    const second = connect(echo.host, { credentials: { source: 'config', registryToken: 'tok-1-secret' } });
    const echoed = await second.transport.send({
      method: 'PUT',
      url: second.url(`/x?sig=${SIGNATURE}`),
      body: Buffer.from('tok-1-secret'),
      signal: never(),
    });
    const repeated = await errorOf(echoed, { method: 'PUT' });
    const broken = await caught(
      second.transport.send({ method: 'GET', url: new URL(`http://127.0.0.1:1/x?sig=${SIGNATURE}`), signal: never() }),
    );
    const cancelled = await caught(
      second.transport.send({ method: 'GET', url: second.url('/silent'), signal: AbortSignal.timeout(20) }),
    );
    expect([broken.headers, cancelled.headers]).toEqual([{}, {}]);
    expect(repeated.message).toContain('X: Bearer *** ***');
    expect(repeated.headers.location).toContain(SIGNATURE);
    expectClean(visible([denied, repeated, broken, cancelled], [...first.events, ...second.events]));
  },
);

it('a token server that repeats the password, also as it stands in a form', async () => {
  const registry = await tokenRegistry({
    token: (request, response, form) =>
      !!response
        .writeHead(request.method === 'GET' ? 405 : 403)
        .end(`<title>${request.headers.authorization} ${form} ${PASSWORD}</title>`),
  });
  const credentials = { source: 'inputs', username: 'bob', password: PASSWORD };
  const { transport, url, events } = connect(registry.host, { credentials });
  const error = await caught(transport.send({ method: 'GET', url: url('/v2/a'), signal: never() }));
  expect(error.message).toContain('403');
  expectClean(visible([error], events));
});

it('announces each secret once, before it is used', async () => {
  const registry = await tokenRegistry();
  const credentials = { source: 'inputs', username: 'bob', password: PASSWORD };
  const { transport, url, events } = connect(registry.host, { credentials });
  for (let n = 0; n < 3; n++) await transport.send({ method: 'GET', url: url('/v2/a'), signal: never() });
  const secrets = events.flatMap((event) => (event.type === 'secret' ? [event.value] : []));
  expect(secrets).toEqual([PASSWORD, BASIC, 'tok-1-secret']);
  expect(events[0]).toMatchObject({ type: 'secret' });
});
