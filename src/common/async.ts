/** Time and waiting, for every folder. Imports nothing. */

/** Milliseconds of a monotonic clock: a system clock that is set back must not lengthen a wait. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6;

/**
 * Resolves or rejects as `promise` does, or rejects with the signal's reason as soon as that is aborted. The work
 * behind the promise goes on; its later failure is not reported as unhandled.
 */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
    promise.catch(() => {});
  }
}
