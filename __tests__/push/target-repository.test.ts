import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { digestOf } from '../../src/oci/types.ts';
import { tagRecords } from '../../src/push/result.ts';
import type { TargetRepository } from '../../src/push/target-repository.ts';
import { contextForTest } from './bench.ts';

/** Bytes: one more than a small blob has. */
const LARGE = 2 * 2 ** 20 + 1;
const DIGEST = digestOf(Buffer.from('manifest'));

/** A repository with two tags, at a registry that nobody asks. */
const twoTags = async () => {
  const { context } = await contextForTest({ tags: 'r.example/team/app:one,r.example/team/app:two' });
  const destination = context.registries[0]?.repositories[0] as TargetRepository;
  const [one, two] = destination.references as [TargetRepository['references'][0], TargetRepository['references'][0]];
  return { context, destination, one, two, tags: () => tagRecords(context.registries) };
};

describe('a destination', () => {
  it('tells nothing of tags that were neither pushed nor refused', async () => {
    const { destination, tags } = await twoTags();
    expect(tags()).toEqual([{ reference: 'r.example/team/app:one' }, { reference: 'r.example/team/app:two' }]);
    expect(destination.failures).toEqual([]);
  });

  it('names the tag that failed, and lives on', async () => {
    const { destination, one, two, tags } = await twoTags();
    const error = new Error('immutable');
    destination.refuse(one, error);
    destination.confirm(two, DIGEST);
    expect(destination.isActive).toBe(true);
    expect(destination.failures).toEqual([{ destination: 'r.example/team/app:one', error }]);
    expect(tags()).toEqual([
      { reference: 'r.example/team/app:one', error: 'Push: immutable' },
      { reference: 'r.example/team/app:two', digest: DIGEST },
    ]);
  });

  it('has failed when all of its tags have', async () => {
    const { destination, one, two } = await twoTags();
    const error = new Error('immutable');
    destination.refuse(one, new Error('locked'));
    destination.refuse(two, error);
    expect(destination.isActive).toBe(false);
    expect(destination.signal.aborted).toBe(true);
    expect(destination.failures).toEqual([{ destination: 'r.example/team/app', error }]);
  });

  it('keeps its first failure, and is well again when the engine has pushed all of its tags', async () => {
    const { destination, one, two } = await twoTags();
    const first = new Error('first');
    destination.fail(first);
    destination.fail(new Error('second'));
    expect(destination.failure).toBe(first);
    destination.confirm(one, DIGEST);
    expect(destination.isActive).toBe(false);
    expect(destination.unpushed).toEqual([two]);
    destination.confirm(two, DIGEST);
    expect(destination.isActive).toBe(true);
    expect(destination.failures).toEqual([]);
  });

  it('remembers until it is sent that the registry lacks a small blob: its HEAD costs as much as its bytes', async () => {
    const { destination } = await twoTags();
    vi.useFakeTimers({ toFake: ['hrtime'] });
    onTestFinished(() => void vi.useRealTimers());
    destination.noteAbsent(DIGEST);
    vi.advanceTimersByTime(60_000);
    expect(destination.lacks(DIGEST, LARGE - 1)).toBe(true);
    expect(destination.lacks(DIGEST, LARGE)).toBe(false);
    destination.sending(DIGEST);
    expect(destination.lacks(DIGEST, LARGE - 1)).toBe(false);
  });

  it('remembers for a second, and until it is sent, that the registry lacks a large blob', async () => {
    const { destination } = await twoTags();
    vi.useFakeTimers({ toFake: ['hrtime'] });
    onTestFinished(() => void vi.useRealTimers());
    expect(destination.lacks(DIGEST, LARGE)).toBe(false);
    destination.noteAbsent(DIGEST);
    vi.advanceTimersByTime(999);
    expect(destination.lacks(DIGEST, LARGE)).toBe(true);
    vi.advanceTimersByTime(1);
    expect(destination.lacks(DIGEST, LARGE)).toBe(false);
    destination.noteAbsent(DIGEST);
    destination.sending(DIGEST);
    expect(destination.lacks(DIGEST, LARGE)).toBe(false);
  });
});
