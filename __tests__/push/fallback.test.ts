import { describe, expect, it } from 'vitest';
import { digestOf } from '../../src/oci/types.ts';
import { mayFallBack, pushByEngine } from '../../src/push/fallback.ts';
import { RegistryError } from '../../src/registry/http/error.ts';
import type { FoundImage } from '../../src/source/source.ts';
import { jobForTest } from './bench.ts';

const DIGEST = digestOf(Buffer.from('by the engine'));

const registryError = (kind: 'auth' | 'denied' | 'reset') =>
  new RegistryError({ kind, method: 'POST', url: new URL('https://r.example/v2/'), reason: 'no', temporary: false });

/** An image in an engine whose push takes every reference but those named. */
const imageWith = (refused: readonly string[] = []): FoundImage & { readonly pushed: string[] } => {
  const pushed: string[] = [];
  return {
    name: 'app:1',
    imageId: DIGEST,
    engine: 'docker',
    pushed,
    open: () => Promise.reject(new Error('nothing is read here')),
    push: async (reference) => {
      if (refused.includes(reference)) throw new Error('the engine was refused too');
      pushed.push(reference);
      return DIGEST;
    },
  };
};

const job = async (fallback = 'engine') =>
  jobForTest({ tags: 'r.example/team/app:1,r.example/team/app:2,other.example/app:1', fallback });

describe('the engine may push instead', () => {
  it('only where that was asked for, and where there is an engine', async () => {
    const { push: _, ...file } = imageWith();
    const { job: asked } = await job();
    const { job: notAsked } = await job('none');
    expect(mayFallBack(asked, imageWith(), new Error('any'))).toBe(true);
    expect(mayFallBack(asked, file, new Error('any'))).toBe(false);
    expect(mayFallBack(notAsked, imageWith(), new Error('any'))).toBe(false);
  });

  it('never for wrong credentials, however deep they are, nor after a cancel', async () => {
    const { job: asked, cancel } = await job();
    expect(mayFallBack(asked, imageWith(), registryError('auth'))).toBe(false);
    expect(mayFallBack(asked, imageWith(), new Error('x', { cause: registryError('denied') }))).toBe(false);
    expect(mayFallBack(asked, imageWith(), registryError('reset'))).toBe(true);
    cancel.abort();
    expect(mayFallBack(asked, imageWith(), registryError('reset'))).toBe(false);
  });
});

describe('pushByEngine', () => {
  it('pushes what failed, tag by tag, and nothing else', async () => {
    const { job: asked, events } = await job();
    const [first, second] = asked.registries.flatMap(({ repositories: destinations }) => destinations);
    for (const reference of second?.references ?? []) second?.confirm(reference, digestOf(Buffer.from('ours')));
    first?.fail(new Error('a proxy'));
    const image = imageWith();
    await pushByEngine(asked, image);
    expect(image.pushed).toEqual(['r.example/team/app:1', 'r.example/team/app:2']);
    expect(first?.isActive).toBe(true);
    expect(first?.failures).toEqual([]);
    expect(events.texts('warning')).toEqual([expect.stringContaining('a proxy')]);
  });

  it('says that layers keep their compression where another one was forced', async () => {
    const tags = 'r.example/team/app:1';
    const { job: asked, events } = await jobForTest({ tags, fallback: 'engine', 'force-compression': 'true' });
    for (const target of asked.registries.flatMap(({ repositories }) => repositories))
      target.fail(new Error('a proxy'));
    await pushByEngine(asked, imageWith());
    expect(events.texts('warning')).toEqual([
      expect.stringContaining('a proxy'),
      'force-compression: docker pushes the layers in the compression that they have',
    ]);
  });

  it('leaves the first failure where the engine fails too', async () => {
    const { job: asked, events } = await job();
    const [first, second] = asked.registries.flatMap(({ repositories: destinations }) => destinations);
    const reason = new Error('a proxy');
    first?.fail(reason);
    second?.fail(registryError('auth'));
    const image = imageWith(['r.example/team/app:2']);
    await pushByEngine(asked, image);
    expect(image.pushed).toEqual(['r.example/team/app:1']);
    expect(first?.failures).toEqual([{ destination: 'r.example/team/app', error: reason }]);
    expect(events.texts('warning').join()).toContain('The fallback failed too: Push: the engine was refused too');
  });
});
