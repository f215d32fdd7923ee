/** Tokens that run out while a layer is under way: no failure, and no more than one 401 a token. */
import { expect, it } from 'vitest';
import { startFaultProxy } from '../support/fault-proxy/proxy.ts';
import { TEST_CREDENTIALS } from '../support/registry/profiles.ts';
import { startRegistry } from '../support/registry/server.ts';
import { runAction } from '../support/runner.ts';
import { imageFile } from './leftovers.ts';

const LAYER = 8_000_000;
/** Bytes a second: the layer takes about ten seconds, each chunk less than a token lives. */
const BANDWIDTH = 800_000;
const LIFETIME = 2;

it('a 2-second token, a layer of ten seconds', async () => {
  const image = await imageFile({ seed: 'tokens', layers: [{ bytes: LAYER, content: 'random' }] });
  const bearer = { ...TEST_CREDENTIALS, lifetimeSeconds: LIFETIME };
  const registry = await startRegistry({ profile: 'distribution3', auth: { bearer } });
  const proxy = await startFaultProxy({ target: registry.url, bandwidth: BANDWIDTH });
  try {
    const run = await runAction({
      inputs: { image: image.source, tags: `${proxy.host}/team/app:1`, 'chunk-size': '1MB', ...TEST_CREDENTIALS },
    });
    expect(run.errors).toEqual([]);
    expect(run.exitCode).toBe(0);
    expect(registry.auth.tokens).toBeGreaterThanOrEqual(4);
    expect(Math.max(0, ...registry.auth.unauthorizedByToken.values())).toBeLessThanOrEqual(1);
  } finally {
    await proxy.close();
    await registry.close();
    image.remove();
  }
});
