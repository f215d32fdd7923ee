import { lookup } from 'node:dns';
import { describe, expect, it } from 'vitest';
import { errorOf } from '../../../src/registry/http/error.ts';
import { guardedLookup, isLinkLocal } from '../../../src/registry/http/url-policy.ts';
import { caught, connect, never, serve } from '../helpers/loopback.ts';
import { tokenRegistry } from '../helpers/token-registry.ts';

const LOGIN = { source: 'the inputs', username: 'bob', password: 'hunter22' };

/** What a service says that only this machine can reach. */
const SECRET = 'AccessKeyId-AKIA123';

const UPLOAD = '/v2/team/app/blobs/uploads/1';

describe('an upload Location on another host', () => {
  it.each([
    ['text', SECRET],
    ['a page', `<html><title>${SECRET}</title></html>`],
    ['JSON of another service', JSON.stringify({ message: SECRET })],
    ['an error document with words of its own', JSON.stringify({ errors: [{ code: 'DENIED', message: SECRET }] })],
    ['a code of its own', JSON.stringify({ errors: [{ code: SECRET, message: 'x', detail: SECRET }] })],
  ])('has answers whose bodies are not shown: %s', async (_, body) => {
    const other = await serve((_, response) => void response.writeHead(403).end(body));
    const registry = await serve((_, response) => void response.end());
    const { transport, events } = connect(registry.host, { credentials: LOGIN });
    const url = new URL(UPLOAD, other.origin);
    const response = await transport.send({ method: 'PUT', url, body: Buffer.from('x'), signal: never() });
    const error = await errorOf(response, { method: 'PUT' });
    expect(`${error.message}${error.body}${JSON.stringify(events)}`).not.toContain(SECRET);
    expect(error.status).toBe(403);
    expect(other.heads[0]!.headers.authorization).toBeUndefined();
  });

  it('has codes of the specification, and digests, that still count: a blob that is missing is sent again', async () => {
    const digest = `sha256:${'a'.repeat(64)}`;
    const errors = [{ code: 'MANIFEST_BLOB_UNKNOWN', message: `${SECRET} ${digest}` }];
    const other = await serve((_, response) => void response.writeHead(404).end(JSON.stringify({ errors })));
    const registry = await serve((request, response) => {
      response.writeHead(307, { location: `${other.origin}${request.url}` }).end();
    });
    const { transport, url } = connect(registry.host);
    const response = await transport.send({
      method: 'PUT',
      url: url('/v2/a/manifests/1'),
      body: Buffer.from('{}'),
      signal: never(),
    });
    const error = await errorOf(response, { method: 'PUT' });
    expect(error.has('MANIFEST_BLOB_UNKNOWN')).toBe(true);
    expect(error.body).toContain(digest);
    expect(error.body).not.toContain(SECRET);
  });

  it('is not deleted there, also not by a redirect', async () => {
    const other = await serve((_, response) => void response.writeHead(202).end());
    const registry = await serve((request, response) => {
      response.writeHead(307, { location: `${other.origin}${request.url}` }).end();
    });
    const { transport, url } = connect(registry.host);
    for (const target of [new URL(UPLOAD, other.origin), url(UPLOAD)]) {
      const error = await caught(transport.send({ method: 'DELETE', url: target, signal: never() }));
      expect(error).toMatchObject({ kind: 'unsafe', temporary: false });
    }
    expect(other.heads).toEqual([]);
  });
});

describe('a token server on another host', () => {
  const answering = (body: string, status = 403) =>
    serve((_, response) => void response.writeHead(status, { 'content-type': 'application/json' }).end(body));

  it('that does not belong to the registry has its codes shown only', async () => {
    const body = JSON.stringify({ errors: [{ code: 'DENIED', message: SECRET }] });
    const other = await answering(body);
    const realm = `${other.origin.replace('127.0.0.1', 'localhost')}/token`;
    const registry = await tokenRegistry({ realm });
    const { transport, url } = connect(registry.host, { credentials: LOGIN });
    const error = await caught(transport.send({ method: 'HEAD', url: url('/v2/a'), signal: never() }));
    expect(error.kind).toBe('auth');
    expect(error.message).toContain('DENIED');
    expect(error.message).not.toContain(SECRET);
  });

  it('of the same host has its words shown', async () => {
    const other = await answering(JSON.stringify({ details: 'incorrect username or password' }), 401);
    const registry = await tokenRegistry({ realm: `${other.origin}/token` });
    const { transport, url } = connect(registry.host, { credentials: LOGIN });
    const error = await caught(transport.send({ method: 'HEAD', url: url('/v2/a'), signal: never() }));
    expect(error.message).toContain('incorrect username or password');
  });
});

describe('link-local addresses', () => {
  it.each([
    '169.254.169.254',
    '[fe80::1]',
    '[::ffff:169.254.169.254]',
    '[64:ff9b::169.254.169.254]',
    '[fd00:ec2::254]',
    '168.63.129.16',
    '100.100.100.200',
    '2852039166',
  ])('%s is one', (host) => {
    expect(isLinkLocal(new URL(`http://${host}/latest/meta-data`))).toBe(true);
  });

  // dns.lookup takes an address as the name of itself.
  it.each([
    ['169.254.169.254', false],
    ['169.254.169.254', true],
    ['fe80::1', true],
  ])('are refused when a name leads there: %s, all: %s', async (name, all) => {
    const error = await new Promise<NodeJS.ErrnoException | null>((resolve) => guardedLookup(name, { all }, resolve));
    expect(error?.code).toBe('ERR_UNSAFE_ADDRESS');
  });

  it.each([false, true])('others are found as by dns.lookup, all: %s', async (all) => {
    const by = (find: typeof guardedLookup) =>
      new Promise<unknown>((resolve) => find('localhost', { all }, (...found) => resolve(found)));
    expect(await by(guardedLookup)).toEqual(await by(lookup as typeof guardedLookup));
  });

  it('names that are unknown stay unknown', async () => {
    const error = await new Promise<NodeJS.ErrnoException | null>((resolve) =>
      guardedLookup('registry.invalid', {}, resolve),
    );
    expect(error?.code).toMatch(/^(ENOTFOUND|EAI_AGAIN)$/);
  });
});
