/** The entries of a stream, as long as somebody wants them. */

/**
 * Gives what `source` gives until `abandoned` resolves. A tool that exports may take its time over the rest of a large
 * entry, or stand still: whoever has nobody left to send to does not wait for it.
 */
export async function* entriesUntil<T>(source: AsyncIterable<T>, abandoned: Promise<void>): AsyncGenerator<T> {
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
