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

/**
 * Yields what `source` yields until `abandoned` resolves; then its next item is not waited for: a tool that exports an
 * image may take its time over the rest of a large entry, or stand still.
 */
export async function* takeUntil<T>(source: AsyncIterable<T>, abandoned: Promise<void>): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  let isAbandoned = false;
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), abandoned]);
      isAbandoned = next === undefined;
      if (!next || next.done) return;
      yield next.value;
    }
  } finally {
    const returned = iterator.return?.();
    // A source that stands still would answer this only after the call before it.
    if (isAbandoned) returned?.catch(() => {});
    else await returned;
  }
}
