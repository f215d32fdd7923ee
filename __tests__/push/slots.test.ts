import { describe, expect, it } from 'vitest';
import { SMALL_BLOB, UploadSlots } from '../../src/push/slots.ts';

const LARGE = SMALL_BLOB + 1;

/** Starts work of these sizes; each ends when the test says so. */
const bench = (count: number) => {
  const slots = new UploadSlots(count);
  const started: string[] = [];
  const ends = new Map<string, () => void>();
  const done: Promise<void>[] = [];
  const add = (name: string, size: number | undefined) => {
    const end = Promise.withResolvers<void>();
    ends.set(name, end.resolve);
    done.push(
      slots.run(size, () => {
        started.push(name);
        return end.promise;
      }),
    );
  };
  /** Ends one, and lets the next one start. */
  const end = async (name: string) => {
    ends.get(name)?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { add, end, started, done, tick: () => end('') };
};

describe('upload slots', () => {
  it('take the largest first when one becomes free, and one whose size is not known before all', async () => {
    const { add, end, started, tick } = bench(1);
    add('first', LARGE);
    for (const [name, size] of [
      ['small', 5],
      ['large', LARGE + 5],
      ['unknown', undefined],
      ['larger', LARGE + 9],
    ] as const)
      add(name, size);
    await tick();
    for (const name of ['first', 'unknown', 'larger', 'large']) await end(name);
    expect(started).toEqual(['first', 'small', 'unknown', 'larger', 'large']);
  });

  it('let small blobs go beside large ones, two for each', async () => {
    const { add, end, started, tick } = bench(1);
    add('one', LARGE);
    add('two', LARGE);
    for (const name of ['a', 'b', 'c']) add(name, 5);
    await tick();
    expect(started).toEqual(['one', 'a', 'b']);
    await end('a');
    expect(started).toEqual(['one', 'a', 'b', 'c']);
    await end('one');
    expect(started).toEqual(['one', 'a', 'b', 'c', 'two']);
  });

  it('are free again after work that failed', async () => {
    const slots = new UploadSlots(1);
    await expect(slots.run(1, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    expect(await slots.run(1, async () => 'next')).toBe('next');
  });
});
