/** HTTPS, and what a registry may say that a client must not follow blindly. */
import { get } from 'node:https';
import { afterEach, expect, it } from 'vitest';
import { ask } from './ask.ts';
import { loopbackCertificate } from './certificate.ts';
import { locatesElsewhere, redirects, warns } from './quirks/hostile.ts';
import { type Registry, startRegistry } from './server.ts';

let registry: Registry | undefined;
afterEach(() => registry?.close());

it('speaks HTTPS with a certificate that is its own authority', async () => {
  const tls = loopbackCertificate();
  registry = await startRegistry({ tls, auth: { bearer: { username: 'robot', password: 'secret' } } });
  const { url } = registry;
  const challenge = await new Promise((resolve, reject) => {
    get(`${url}/v2/`, { ca: tls.cert, agent: false }, (response) => {
      response.resume();
      resolve(response.headers['www-authenticate']);
    }).once('error', reject);
  });
  expect(challenge).toContain(`realm="${url}/token"`);
  const untrusted = new Promise((_, reject) => get(`${url}/v2/`, { agent: false }).once('error', reject));
  await expect(untrusted).rejects.toThrow(/self.signed/);
});

it('warns, locates elsewhere, redirects', async () => {
  const quirks = [warns('deprecated'), locatesElsewhere('http://127.0.0.2:1'), redirects('tags', 'http://127.0.0.3:1')];
  registry = await startRegistry({ quirks });
  const post = await ask('POST', `${registry.url}/v2/a/b/blobs/uploads/`);
  expect(post.headers.warning).toBe('299 - "deprecated"');
  expect(post.headers.location).toMatch(/^http:\/\/127\.0\.0\.2:1\/v2\/a\/b\/blobs\/uploads\//);
  const tags = await ask('GET', `${registry.url}/v2/a/b/tags/list?n=1`);
  expect([tags.status, tags.headers.location]).toEqual([307, 'http://127.0.0.3:1/v2/a/b/tags/list?n=1']);
});
