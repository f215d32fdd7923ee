/** Cuts at random places of one large layer, pushed by the action: k cuts cost at most k chunks. The 500 MB version: npm run faults. */

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startFaultProxy } from '../support/fault-proxy/proxy.ts';
import { startRegistry } from '../support/registry/server.ts';
import { runAction } from '../support/runner.ts';
import { type ImageFile, imageFile, resentBy } from './leftovers.ts';

const LAYER = 40_000_000;
const CHUNK = 4_000_000;
const CUTS = 6;

describe('a layer of ten chunks', () => {
  let image: ImageFile;

  beforeAll(async () => {
    image = await imageFile({ seed: 'cuts', layers: [{ bytes: LAYER, content: 'random' }] });
  });

  afterAll(() => image?.remove());

  it.each(['serverless', 'distribution3'] as const)(
    'into %s: at most a chunk a cut',
    { timeout: 120_000 },
    async (profile) => {
      const registry = await startRegistry({ profile, minChunk: 1_000_000 });
      const proxy = await startFaultProxy({ target: registry.url, seed: 7 });
      try {
        proxy.faults.cutRandomly({ cuts: CUTS, within: LAYER, answersToo: true });
        const tags = `${proxy.host}/team/app:1`;
        const run = await runAction({ inputs: { image: image.source, tags, 'chunk-size': String(CHUNK) } });
        expect(run.errors).toEqual([]);
        expect(run.exitCode).toBe(0);
        const { made } = proxy.faults.cuts();
        expect(made).toBeGreaterThanOrEqual(CUTS - 1);
        expect(resentBy(run)).toBeLessThanOrEqual(made * CHUNK);
        for (const digest of registry.blobs('team/app')) {
          const bytes = await readFile(registry.blobPath(digest));
          expect(`sha256:${createHash('sha256').update(bytes).digest('hex')}`).toBe(digest);
        }
      } finally {
        await proxy.close();
        await registry.close();
      }
    },
  );
});
