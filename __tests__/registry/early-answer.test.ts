/** An answer that comes before the body is through must be seen as that answer: 413 is how proxies tell their limit. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { errorOf } from '../../src/registry/transport.ts';
import { bodyOf, connect, listen, never } from './helpers/loopback.ts';

const CA = readFileSync(new URL('../fixtures/tls/ca.pem', import.meta.url), 'utf8');
const BODY_BYTES = 12 * 1024 * 1024;
const ROUNDS = 10;

/** Node.js can not reset a TLS connection by itself. */
const WAYS = { http: ['destroy', 'reset', 'late', 'end', 'stay'], https: ['destroy', 'late', 'end', 'stay'] } as const;

async function earlyServer(way: string, scheme: string): Promise<string> {
  const script = fileURLToPath(new URL('./helpers/early-server.ts', import.meta.url));
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

/** A port that was free a moment ago: nginx can not be asked which one it took. */
async function freePort(): Promise<number> {
  const probe = createServer();
  const host = await listen(probe);
  await new Promise((resolve) => probe.close(resolve));
  return Number(host.split(':')[1]);
}

async function nginx(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'nginx-'));
  const port = await freePort();
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off; pid ${folder}/pid; error_log stderr crit; events {}
     http { access_log off; client_body_temp_path ${folder}; proxy_temp_path ${folder}; fastcgi_temp_path ${folder};
       uwsgi_temp_path ${folder}; scgi_temp_path ${folder}; client_max_body_size 1m;
       server { listen 127.0.0.1:${port}; location / { return 200; } location /up { proxy_pass http://127.0.0.1:9; } } }`,
  );
  const child = spawn('/usr/sbin/nginx', ['-p', folder, '-c', join(folder, 'nginx.conf')], { stdio: 'ignore' });
  onTestFinished(async () => {
    child.kill();
    await once(child, 'exit');
    rmSync(folder, { recursive: true });
  });
  return `127.0.0.1:${port}`;
}

describe.runIf(existsSync('/usr/sbin/nginx'))('behind nginx with client_max_body_size', () => {
  it('reads every 413', async () => {
    const { transport, url } = connect(await nginx());
    for (let round = 0; round < ROUNDS; round++) {
      const response = await sendPatiently();
      expect(await errorOf(response, { method: 'PATCH' })).toMatchObject({ status: 413, temporary: false });
    }

    /** The first request may come before nginx listens. */
    async function sendPatiently() {
      for (let tries = 0; ; tries++) {
        try {
          return await transport.send({ method: 'PATCH', url: url('/up'), body: slowBody(), signal: never() });
        } catch (error) {
          if (tries > 40) throw error;
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      }
    }
  });
});
