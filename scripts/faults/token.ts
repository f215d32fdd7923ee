/** A token that is good for seconds, and a layer that takes a minute. */

import { imageFile } from '../../__tests__/faults/leftovers.ts';
import { startFaultProxy } from '../../__tests__/support/fault-proxy/proxy.ts';
import { TEST_CREDENTIALS } from '../../__tests__/support/registry/profiles.ts';
import { startRegistry } from '../../__tests__/support/registry/server.ts';
import { runAction } from '../../__tests__/support/runner.ts';

export interface TokenRun {
  readonly layerBytes: number;
  readonly lifetimeSeconds: number;
  readonly seconds: number;
  readonly tokens: number;
  /** The most 401s that one token got. */
  readonly most401: number;
  readonly failed?: string;
}

const LAYER = 60_000_000;
const BANDWIDTH = 1_000_000;
const LIFETIME = 5;

export async function measureToken(): Promise<TokenRun> {
  const image = await imageFile({ seed: 'token', layers: [{ bytes: LAYER, content: 'random' }] });
  const bearer = { ...TEST_CREDENTIALS, lifetimeSeconds: LIFETIME };
  const registry = await startRegistry({ profile: 'distribution3', auth: { bearer } });
  const proxy = await startFaultProxy({ target: registry.url, bandwidth: BANDWIDTH });
  try {
    const inputs = {
      image: image.source,
      tags: `${proxy.host}/faults/app:1`,
      'chunk-size': '8MB',
      ...TEST_CREDENTIALS,
    };
    const run = await runAction({ inputs });
    return {
      layerBytes: LAYER,
      lifetimeSeconds: LIFETIME,
      seconds: run.seconds,
      tokens: registry.auth.tokens,
      most401: Math.max(0, ...registry.auth.unauthorizedByToken.values()),
      ...(run.exitCode === 0 ? {} : { failed: run.errors[0] ?? 'no error line' }),
    };
  } finally {
    await proxy.close();
    await registry.close();
    image.remove();
  }
}
