import { describe, expect, it } from 'vitest';
import { type ErrorContext, errorOf, RegistryError } from '../../../src/registry/http/error.ts';

const errorFor = (status: number, body: string, context: Partial<ErrorContext> = {}) =>
  errorOf(
    {
      status,
      url: new URL('https://r.test/v2/a/blobs/uploads/7?_state=secret'),
      headers: { 'x-request-id': '3' },
      remedy: 'log in',
      excerpt: async (limit) => body.slice(0, limit),
    },
    { method: 'PATCH', ...context },
  );

describe('errorOf', () => {
  it('says what was tried and what the registry said', async () => {
    const body = '{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}';
    const error = await errorFor(403, body, { step: 'layer 3' });
    expect(error.message).toBe(
      'layer 3: PATCH https://r.test/v2/a/blobs/uploads/7?_state=…: 403 Forbidden: DENIED: requested access to the resource is denied',
    );
    expect(error).toMatchObject({ kind: 'denied', status: 403, temporary: false, step: 'layer 3', remedy: 'log in' });
    expect(error.has('DENIED')).toBe(true);
    expect(error.has('UNKNOWN')).toBe(false);
    expect(error.headers).toEqual({ 'x-request-id': '3' });
  });

  it('knows what may pass', async () => {
    for (const status of [408, 425, 429, 500, 502, 503, 504, 520, 524]) {
      expect((await errorFor(status, '')).temporary, String(status)).toBe(true);
    }
    for (const status of [400, 401, 403, 404, 405, 413, 416, 501]) {
      expect((await errorFor(status, '')).temporary, String(status)).toBe(false);
    }
    expect((await errorFor(403, '{"errors":[{"code":"TOOMANYREQUESTS"}]}')).temporary).toBe(true);
  });

  it('lets the caller know better', async () => {
    const context = { temporary: false, kind: 'protocol', remedy: 'set chunk-size' } as const;
    expect(await errorFor(500, '', context)).toMatchObject(context);
  });

  it('keeps the first 2 KiB of a body', async () => {
    expect((await errorFor(500, 'x'.repeat(9999))).body).toHaveLength(2048);
  });
});

describe('RegistryError', () => {
  it('is an error with a cause', () => {
    const cause = new Error('why');
    const error = new RegistryError({
      kind: 'reset',
      method: 'GET',
      url: new URL('https://u:p@r.test/x'),
      reason: 'the connection broke',
      temporary: true,
      cause,
    });
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({
      name: 'RegistryError',
      cause,
      codes: [],
      body: '',
      message: 'GET https://r.test/x: the connection broke',
    });
  });
});
