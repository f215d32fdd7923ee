/** An answer that comes before the body is through must be seen as that answer: 413 is how proxies tell their limit. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { errorOf } from '../../../src/registry/http/error.ts';
import { startNginx } from '../../support/real/nginx.ts';
import { describeWith } from '../../support/real/suite.ts';
import { bodyOf, connect, never, read, serve } from '../helpers/loopback.ts';

const CA = readFileSync(new URL('../../fixtures/tls/ca.pem', import.meta.url), 'utf8');
const BODY_BYTES = 8 * 1024 * 1024;
const ROUNDS = 6;

/** Node.js can not reset a TLS connection by itself. */
const WAYS = { http: ['destroy', 'reset', 'late', 'end', 'stay'], https: ['destroy', 'late', 'end', 'stay'] } as const;

async function earlyServer(way: string, scheme: string): Promise<string> {
  const script = fileURLToPath(new URL('../helpers/early-server.ts', import.meta.url));
  const child = spawn(process.execPath, [script, way, scheme], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill());
  const [line] = await once(child.stdout, 'data');
  return `127.0.0.1:${String(line).trim()}`;
}

/** A body whose making takes time, as compressing does: then the reset is there before the answer was read. */
function slowBody() {
  const { size, open } = bodyOf(BODY_BYTES);
  return {
    size,
    open: () =>
      open().on('data', () => {
        for (const until = performance.now() + 1; performance.now() < until; );
      }),
  };
}

describe.each(['http', 'https'] as const)('over %s', (scheme) => {
  it.each(WAYS[scheme])('reads the 413 of a server that then does: %s', async (way) => {
    const { transport, url } = connect(await earlyServer(way, scheme), { ca: CA });
    for (let round = 0; round < ROUNDS; round++) {
      const response = await transport.send({ method: 'PATCH', url: url('/v2/x'), body: slowBody(), signal: never() });
      const error = await errorOf(response, { method: 'PATCH' });
      expect(error.message).toMatch(/PATCH https?:\/\/127\.0\.0\.1:\d+\/v2\/x: 413 Request Entity Too Large$/);
    }
  });

  it('reads it for a body in memory too', async () => {
    const { transport, url } = connect(await earlyServer('destroy', scheme), { ca: CA });
    for (let round = 0; round < ROUNDS; round++) {
      const body = Buffer.alloc(BODY_BYTES);
      const response = await transport.send({ method: 'PATCH', url: url('/v2/x'), body, signal: never() });
      expect(response.status).toBe(413);
      await response.discard();
    }
  });
});

describeWith(['nginx'], 'behind nginx with client_max_body_size', () => {
  it('reads every 413, with the body read to its limit before or not', async () => {
    const upstream = (await serve(async (request, response) => void (await read(request).then(() => response.end()))))
      .host;
    for (const requestBuffering of [true, false]) {
      const nginx = await startNginx({ upstream, clientMaxBodySize: '1m', requestBuffering });
      onTestFinished(() => nginx.stop());
      const { transport, url } = connect(nginx.host);
      for (let round = 0; round < ROUNDS; round++) {
        const response = await transport.send({
          method: 'PATCH',
          url: url('/v2/x'),
          body: slowBody(),
          signal: never(),
        });
        const error = await errorOf(response, { method: 'PATCH' });
        expect(error).toMatchObject({ status: 413, temporary: false });
        expect(error.message).toMatch(/: 413 Request Entity Too Large$/);
      }
    }
  });
});
