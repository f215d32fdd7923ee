import { describe, expect, it } from 'vitest';
import { SMALL_BLOB, TINY_BLOB, UploadSlots } from '../../src/push/slots.ts';

const LARGE = SMALL_BLOB + 1;
const SMALL = TINY_BLOB + 1;

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
  return { slots, add, end, started, done, tick: () => end('') };
};

describe('upload slots', () => {
  it('take the largest first when one becomes free, and one whose size is not known before all', async () => {
    const { add, end, started, tick } = bench(2);
    add('first', LARGE);
    add('second', LARGE);
    for (const [name, size] of [
      ['large', LARGE + 5],
      ['unknown', undefined],
      ['larger', LARGE + 9],
    ] as const)
      add(name, size);
    await tick();
    for (const name of ['first', 'second', 'unknown', 'larger', 'large']) await end(name);
    expect(started).toEqual(['first', 'second', 'unknown', 'larger', 'large']);
  });

  it('keep one for small blobs as long as one waits, and never give out more than there are', async () => {
    const { add, end, started, tick } = bench(3);
    for (const name of ['a', 'b', 'c', 'd']) add(name, SMALL);
    for (const name of ['one', 'two', 'three']) add(name, LARGE);
    await tick();
    expect(started).toEqual(['a', 'b', 'c']);
    await end('a');
    await end('b');
    expect(started.slice(3)).toEqual(['one', 'two']);
    // A place is free, and it is that of the small one.
    await end('c');
    expect(started.slice(5)).toEqual(['d']);
    await end('d');
    expect(started.slice(6)).toEqual(['three']);
  });

  it('keep one for small blobs that are expected, until they are not any more', async () => {
    const { slots, add, end, started, tick } = bench(2);
    const [one, other] = [slots.expectSmall(), slots.expectSmall()];
    add('one', LARGE);
    add('two', LARGE);
    await tick();
    expect(started).toEqual(['one']);
    add('a', SMALL);
    await tick();
    expect(started).toEqual(['one', 'a']);
    await end('a');
    one();
    one();
    await tick();
    expect(started).toEqual(['one', 'a']);
    other();
    await tick();
    expect(started).toEqual(['one', 'a', 'two']);
  });

  it('let one blob go after the other where there is one place, the small ones first', async () => {
    const { slots, add, end, started, tick } = bench(1);
    slots.expectSmall();
    for (const [name, size] of [
      ['one', LARGE],
      ['two', LARGE],
      ['a', SMALL],
      ['b', 5],
    ] as const)
      add(name, size);
    await tick();
    expect(started).toEqual(['one']);
    await end('one');
    expect(started).toEqual(['one', 'b']);
    await end('b');
    expect(started).toEqual(['one', 'b', 'a']);
    await end('a');
    expect(started).toEqual(['one', 'b', 'a', 'two']);
  });

  it('let tiny blobs go beside the others, as many again, and no more', async () => {
    const { add, end, started, tick } = bench(2);
    for (const name of ['one', 'two', 'three']) add(name, SMALL);
    for (const name of ['a', 'b', 'c', 'd', 'e']) add(name, TINY_BLOB);
    await tick();
    expect(started).toEqual(['one', 'two', 'a', 'b']);
    await end('a');
    expect(started.slice(4)).toEqual(['c']);
    await end('one');
    // What is tiny goes first: it is soon over.
    expect(started.slice(5)).toEqual(['d']);
    await end('b');
    await end('c');
    expect(started.slice(6)).toEqual(['e', 'three']);
  });

  it('are free again after work that failed', async () => {
    const slots = new UploadSlots(1);
    await expect(slots.run(1, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    expect(await slots.run(1, async () => 'next')).toBe('next');
  });
});
