/** Time that tests need not wait for. */
import { setImmediate as turn } from 'node:timers/promises';
import type { Clock } from '../../src/registry/host/throttle.ts';

/** Waits pass at once, and the clock knows that they did. */
export function quickClock(): Clock {
  let skipped = 0;
  return {
    now: () => performance.now() + skipped,
    random: () => 0.5,
    sleep: async (ms, signal) => {
      signal.throwIfAborted();
      skipped += ms;
      await turn();
    },
  };
}
