/** Waiting, replaceable in tests. */
import { setTimeout as sleepFor } from 'node:timers/promises';
import type { BackoffClock } from './backoff.ts';

/** Time and chance. */
export type Clock = BackoffClock;

/** Resolves after so many milliseconds; rejects with the signal's reason. */
export async function systemSleep(ms: number, signal: AbortSignal): Promise<void> {
  await sleepFor(ms, undefined, { signal }).catch((error: unknown) => {
    throw signal.aborted ? signal.reason : error;
  });
}
