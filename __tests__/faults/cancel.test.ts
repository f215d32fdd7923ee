/** SIGTERM in the middle of ten uploads to a registry that has stopped answering: gone before the runner kills it, nothing left. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hang } from '../support/fault-proxy/faults.ts';
import { startFaultProxy } from '../support/fault-proxy/proxy.ts';
import type { FaultRule } from '../support/fault-proxy/rules.ts';
import { startRegistry } from '../support/registry/server.ts';
import { freshRunner, runAction } from '../support/runner.ts';
import { filesBelow, type ImageFile, imageFile } from './leftovers.ts';

const LAYERS = 10;

const hangs = (step: FaultRule['step'], when: 'before' | 'after' = 'before'): FaultRule => ({
  step,
  fault: hang(when),
  times: Number.POSITIVE_INFINITY,
});

const HANGING: Readonly<Record<string, { rule: FaultRule; left: number }>> = {
  'chunks get no answer': { rule: hangs('upload-patch'), left: 0 },
  'chunks that were taken get no answer': { rule: hangs('upload-patch', 'after'), left: 0 },
  'the closing requests get no answer': { rule: hangs('upload-put'), left: 0 },
  // No session can be deleted at a registry that is silent: it clears them away by itself. The config's is one of them.
  'nothing gets an answer any more': {
    rule: hangs(['upload-patch', 'upload-get', 'upload-put', 'upload-delete']),
    left: LAYERS + 1,
  },
};

describe('SIGTERM in the middle of ten uploads', () => {
  let image: ImageFile;

  beforeAll(async () => {
    const layer = { bytes: 1_500_000, content: 'random' as const };
    image = await imageFile({ seed: 'hanging', layers: Array.from({ length: LAYERS }, () => layer) });
  });

  afterAll(() => image?.remove());

  it.each(Object.entries(HANGING))('%s', async (_, { rule, left }) => {
    const registry = await startRegistry({ profile: 'plain' });
    const proxy = await startFaultProxy({ target: registry.url });
    const hanging = proxy.faults.add(rule);
    const runner = freshRunner();
    let isSent = false;
    try {
      const inputs = { image: image.source, tags: `${proxy.host}/team/app:1`, concurrency: '10', 'chunk-size': '1MB' };
      const stop = { now: () => {} };
      const watch = setInterval(() => {
        if (hanging.hits < LAYERS || isSent) return;
        isSent = true;
        stop.now();
      }, 20);
      const run = await runAction({
        inputs,
        runner,
        onOutput: (_text, signal) => {
          stop.now = () => signal('SIGTERM');
        },
      });
      clearInterval(watch);
      expect([run.exitCode, run.signal]).toEqual([1, undefined]);
      expect(run.errors).toEqual([expect.stringMatching(/cancelled/i)]);
      expect(registry.openSessions()).toBeLessThanOrEqual(left);
      expect(registry.tags('team/app')).toEqual([]);
      expect(filesBelow(runner.temp)).toEqual([]);
    } finally {
      await proxy.close();
      await registry.close();
      runner.remove();
    }
  });
});
