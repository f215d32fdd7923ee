import { describe, expect, it } from 'vitest';
import { errorOf, RegistryError } from '../../../src/registry/http/error.ts';
import { connect, never, serve, timeByHand } from '../helpers/loopback.ts';
import { tokenRegistry } from '../helpers/token-registry.ts';

const PUSH = ['repository:team/app:pull,push'];
const USER = { source: 'the inputs username and password', username: 'bob', password: 'hunter22' };
const BASIC = `Basic ${Buffer.from('bob:hunter22').toString('base64')}`;

const head = (scopes: readonly string[] = PUSH) => ({ method: 'HEAD', scopes, signal: never() });

describe('bearer tokens', () => {
  it('asks once for all scopes that a request wants, with the credentials', async () => {
    const registry = await tokenRegistry();
    const { transport, url } = connect(registry.host, { credentials: USER });
    const scopes = [...PUSH, 'repository:base/app:pull'];
    const response = await transport.send({ ...head(scopes), url: url('/v2/x') });
    expect(response.status).toBe(200);
    // The first request tells the challenge.
    expect(registry.refusals).toBe(1);
    expect(registry.asked).toHaveLength(1);
    const { method, query, authorization } = registry.asked[0]!;
    expect(method).toBe('GET');
    expect(authorization).toBe(BASIC);
    expect(query.getAll('scope')).toEqual(['repository:base/app:pull', 'repository:team/app:pull,push']);
    expect(query.get('service')).toBe('test');
    expect(query.get('account')).toBe('bob');
  });

  it('gets an anonymous token without credentials', async () => {
    const registry = await tokenRegistry();
    const { transport, url } = connect(registry.host);
    expect((await transport.send({ ...head(), url: url('/v2/x') })).status).toBe(200);
    expect(registry.asked[0]!.authorization).toBeUndefined();
    expect(registry.asked[0]!.query.has('account')).toBe(false);
  });

  it('fetches one token for many requests at once', async () => {
    const registry = await tokenRegistry();
    const { transport, url } = connect(registry.host, { credentials: USER });
    const sent = Array.from({ length: 12 }, (_, n) => transport.send({ ...head(), url: url(`/v2/${n}`) }));
    expect((await Promise.all(sent)).map(({ status }) => status)).toEqual(Array(12).fill(200));
    expect(registry.asked).toHaveLength(1);
    // One request goes ahead, and the others wait for its answer.
    expect(registry.refusals).toBe(1);
  });

  it('renews a token of 2 seconds between requests, with no more than one 401 a token', async () => {
    const registry = await tokenRegistry({ lifetime: 2 });
    const { transport, url } = connect(registry.host, { credentials: USER });
    const pass = timeByHand();
    for (let n = 0; n < 250; n++) {
      expect((await transport.send({ ...head(), url: url(`/v2/${n}`) })).status).toBe(200);
      pass(20);
    }
    expect(registry.refusals).toBeLessThanOrEqual(registry.asked.length);
    expect(registry.asked.length).toBeGreaterThanOrEqual(3);
    expect(registry.asked.length).toBeLessThanOrEqual(5);
  });

  it('gets a new token once when one is refused in the middle, for all that used it', async () => {
    // The server forgets tokens after 1 s although it said 300.
    const registry = await tokenRegistry({ lifetime: 1, answer: { expires_in: 300 } });
    const { transport, url } = connect(registry.host, { credentials: USER });
    const pass = timeByHand();
    await transport.send({ ...head(), url: url('/v2/x') });
    pass(1100);
    const sent = await Promise.all([1, 2, 3].map((n) => transport.send({ ...head(), url: url(`/v2/${n}`) })));
    expect(sent.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(registry.asked).toHaveLength(2);
  });

  it('takes the second 401 as final, and says which credentials were used', async () => {
    const registry = await tokenRegistry({ lifetime: 0, answer: { expires_in: 300 } });
    const { transport, url } = connect(registry.host, { credentials: USER });
    const response = await transport.send({ ...head(), method: 'GET', url: url('/v2/x') });
    expect(response.status).toBe(401);
    expect(registry.refusals).toBe(2);
    const error = await errorOf(response, { method: 'GET', step: 'asking for a blob' });
    expect(error).toMatchObject({ kind: 'auth', temporary: false, status: 401 });
    expect(error.message).toContain('UNAUTHORIZED: authentication required');
    expect(error.remedy).toBe(
      'the user bob from the inputs username and password was used: check that it is right and may push to this repository',
    );
  });

  it('asks for the scope that the challenge names, and remembers it', async () => {
    const registry = await tokenRegistry({ needs: () => 'repository:project/team/app:pull,push' });
    const { transport, url } = connect(registry.host, { credentials: USER });
    expect((await transport.send({ ...head(), url: url('/v2/x') })).status).toBe(200);
    expect((await transport.send({ ...head(), url: url('/v2/y') })).status).toBe(200);
    expect(registry.refusals).toBe(1);
    expect(registry.asked.at(-1)!.query.getAll('scope')).toEqual([
      'repository:project/team/app:pull,push',
      'repository:team/app:pull,push',
    ]);
  });

  it('asks for `delete` only where it was wanted', async () => {
    const registry = await tokenRegistry({
      needs: ({ method }) => (method === 'DELETE' ? 'repository:team/app:delete' : ''),
    });
    const { transport, url } = connect(registry.host, { credentials: USER });
    const request = { scopes: PUSH, signal: never(), url: url('/v2/x') };
    for (const method of ['PATCH', 'DELETE', 'PATCH', 'DELETE']) {
      expect((await transport.send({ ...request, method })).status, method).toBe(200);
    }
    const scopes = registry.asked.map(({ query }) => query.getAll('scope').join(' '));
    expect(scopes).toEqual([PUSH[0], 'repository:team/app:delete,pull,push']);
    expect(registry.refusals).toBe(2);
  });

  it("counts the lifetime from issued_at by the server's own clock", async () => {
    const pass = timeByHand();
    const issued_at = new Date(Date.now() - 299_000).toISOString();
    const registry = await tokenRegistry({ answer: { expires_in: 300, issued_at } });
    const { transport, url } = connect(registry.host);
    await transport.send({ ...head(), url: url('/v2/x') });
    pass(1600);
    await transport.send({ ...head(), url: url('/v2/y') });
    expect(registry.asked).toHaveLength(2);
  });

  it('takes access_token, and 60 s where no lifetime is given', async () => {
    const registry = await tokenRegistry({ answer: { token: undefined, access_token: 'tok-1-secret' } });
    const { transport, url } = connect(registry.host);
    expect((await transport.send({ ...head(), url: url('/v2/x') })).status).toBe(200);
    expect((await transport.send({ ...head(), url: url('/v2/y') })).status).toBe(200);
    expect(registry.asked).toHaveLength(1);
  });

  it('exchanges an identity token by POST', async () => {
    const registry = await tokenRegistry();
    const credentials = { source: 'config', identityToken: 'idtok-secret' };
    const { transport, url } = connect(registry.host, { credentials });
    expect((await transport.send({ ...head(), url: url('/v2/x') })).status).toBe(200);
    const { method, form, authorization } = registry.asked[0]!;
    expect(method).toBe('POST');
    expect(authorization).toBeUndefined();
    expect(Object.fromEntries(form)).toMatchObject({
      grant_type: 'refresh_token',
      refresh_token: 'idtok-secret',
      service: 'test',
      scope: PUSH[0],
    });
  });

  it.each([404, 405])('falls back from GET to POST, and from POST to GET, on %i', async (status) => {
    for (const [credentials, refused] of [
      [USER, 'GET'],
      [{ source: 'config', identityToken: 'idtok-secret' }, 'POST'],
    ] as const) {
      const registry = await tokenRegistry({
        token: (request, response) => request.method === refused && !!response.writeHead(status).end(),
      });
      const { transport, url } = connect(registry.host, { credentials });
      expect((await transport.send({ ...head(), url: url('/v2/x') })).status).toBe(200);
      expect(registry.asked.map(({ method }) => method)).toEqual(refused === 'GET' ? ['GET', 'POST'] : ['POST', 'GET']);
      if (refused === 'GET') expect(registry.asked[1]!.form.get('password')).toBe('hunter22');
    }
  });

  it('fails at once when the token server refuses the password, with its words and the remedy', async () => {
    const registry = await tokenRegistry({
      token: (_, response) => !!response.writeHead(401).end('{"details":"incorrect username or password hunter22"}'),
    });
    const { transport, url } = connect(registry.host, { credentials: USER });
    const error = await transport.send({ ...head(), url: url('/v2/x') }).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(RegistryError);
    expect(error).toMatchObject({ kind: 'auth', temporary: false, step: 'asking for a token', status: 401 });
    expect((error as RegistryError).message).toContain('incorrect username or password ***');
    expect((error as RegistryError).remedy).toContain('the user bob from the inputs username and password');
  });

  it('lets the next request try again when the token server was only busy', async () => {
    let times = 0;
    const registry = await tokenRegistry({ token: (_, response) => times++ === 0 && !!response.writeHead(500).end() });
    const { transport, url } = connect(registry.host, { credentials: USER });
    await expect(transport.send({ ...head(), url: url('/v2/x') })).rejects.toMatchObject({
      temporary: true,
      status: 500,
    });
    expect((await transport.send({ ...head(), url: url('/v2/x') })).status).toBe(200);
  });

  it.each(['{}', '[]', 'null', 'nonsense', '{"token":""}', '{"token":"a\\nb"}', '{"token":7}'])(
    'says that an answer holds no token: %s',
    async (text) => {
      const registry = await tokenRegistry({ token: (_, response) => !!response.end(text) });
      const { transport, url } = connect(registry.host);
      await expect(transport.send({ ...head(), url: url('/v2/x') })).rejects.toThrow('the answer holds no token');
    },
  );

  it('lets a request go when its signal says so, and the others have the token', async () => {
    const gate = Promise.withResolvers<void>();
    const registry = await tokenRegistry({
      token: (_, response) => {
        void gate.promise.then(() => response.end('{"token":"x"}'));
        return true;
      },
    });
    const { transport, url } = connect(registry.host);
    const controller = new AbortController();
    const impatient = transport.send({ ...head(), url: url('/v2/x'), signal: controller.signal });
    const patient = transport.send({ ...head(), url: url('/v2/x') });
    await expect.poll(() => registry.asked.length).toBe(1);
    controller.abort();
    await expect(impatient).rejects.toMatchObject({ kind: 'cancelled' });
    gate.resolve();
    expect((await patient).status).toBe(401);
  });

  it.each([
    ['user:pw@', 'carries a user name or password'],
    ['169.254.169.254', 'is a link-local address'],
    ['[fe80::1]', 'is a link-local address'],
  ])('does not ask a token server at %s', async (place, objection) => {
    const realm = place.endsWith('@') ? `http://${place}127.0.0.1/token` : `http://${place}/token`;
    const registry = await tokenRegistry({ realm });
    const { transport, url } = connect(registry.host, { credentials: USER });
    await expect(transport.send({ ...head(), url: url('/v2/x') })).rejects.toMatchObject({
      kind: 'unsafe',
      temporary: false,
      message: expect.stringContaining(objection),
    });
    expect(registry.asked).toHaveLength(0);
  });
});

describe('other schemes', () => {
  const challenged = (challenge: string, right: string | undefined) =>
    serve(
      (request, response) => {
        const ok = request.headers.authorization === right;
        response.writeHead(ok ? 200 : 401, ok ? {} : { 'www-authenticate': challenge }).end();
      },
      { ping: true },
    );

  it('answers `Basic` without a realm: the first request tells of it', async () => {
    const registry = await challenged('Basic', BASIC);
    const { transport, url } = connect(registry.host, { credentials: USER });
    expect((await transport.send({ ...head(), url: url('/v2/x') })).status).toBe(200);
    expect(registry.requests()).toEqual(['HEAD /v2/x', 'HEAD /v2/x']);
  });

  it('sends credentials nowhere unless asked', async () => {
    const registry = await serve((_, response) => void response.end());
    const { transport, url } = connect(registry.host, { credentials: USER });
    await transport.send({ ...head(), url: url('/v2/x') });
    expect(registry.heads[0]!.headers.authorization).toBeUndefined();
  });

  it('answers a challenge that comes only for a push', async () => {
    const registry = await serve((request, response) => {
      const ok = request.method === 'GET' || request.headers.authorization === BASIC;
      response.writeHead(ok ? 200 : 401, { 'www-authenticate': 'Basic realm=x' }).end();
    });
    const { transport, url } = connect(registry.host, { credentials: USER });
    expect((await transport.send({ method: 'POST', url: url('/v2/x'), signal: never() })).status).toBe(200);
    expect(registry.requests()).toEqual(['POST /v2/x', 'POST /v2/x']);
  });

  it('does not repeat a request whose Basic credentials were refused, and says so', async () => {
    const registry = await challenged('Basic', 'another');
    const { transport, url } = connect(registry.host, { credentials: USER });
    const response = await transport.send({ ...head(), url: url('/v2/x') });
    expect(response.status).toBe(401);
    expect(registry.requests()).toEqual(['HEAD /v2/x', 'HEAD /v2/x']);
  });

  it('says what to do without credentials', async () => {
    const registry = await challenged('Basic', 'another');
    const { transport, url } = connect(registry.host);
    const error = await errorOf(await transport.send({ ...head(), url: url('/v2/x') }), { method: 'HEAD' });
    expect(error.remedy).toBe(
      `no credentials for ${registry.host} were found: set username and password, or run docker/login-action before`,
    );
  });

  it('says what to do where the inputs are for another registry', async () => {
    const registry = await challenged('Basic', 'another');
    const { transport, url } = connect(registry.host, { inputsAreFor: 'a.example' });
    const error = await errorOf(await transport.send({ ...head(), url: url('/v2/x') }), { method: 'HEAD' });
    expect(error.remedy).toBe(
      `no credentials for ${registry.host} were found: run docker/login-action for it before (username and password are for a.example)`,
    );
  });

  it('says which scheme it can not answer', async () => {
    const registry = await challenged('Negotiate', 'another');
    const { transport, url } = connect(registry.host, { credentials: USER });
    const error = await errorOf(await transport.send({ ...head(), url: url('/v2/x') }), { method: 'HEAD' });
    expect(error.remedy).toContain('asks for negotiate: only Basic and Bearer');
  });

  it('sends a registry token as it is', async () => {
    const registry = await challenged('Bearer realm="http://127.0.0.1/t"', 'Bearer regtok');
    const { transport, url } = connect(registry.host, { credentials: { source: 'config', registryToken: 'regtok' } });
    expect((await transport.send({ ...head(), url: url('/v2/x') })).status).toBe(200);
  });
});
