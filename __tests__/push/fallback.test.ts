import { describe, expect, it } from 'vitest';
import { digestOf } from '../../src/oci/types.ts';
import { mayFallBack, pushByEngine } from '../../src/push/fallback.ts';
import { RegistryError } from '../../src/registry/http/error.ts';
import type { FoundImage } from '../../src/source/source.ts';
import { contextForTest } from './bench.ts';

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

const context = async (fallback = 'engine') =>
  contextForTest({ tags: 'r.example/team/app:1,r.example/team/app:2,other.example/app:1', fallback });

describe('the engine may push instead', () => {
  it('only where that was asked for, and where there is an engine', async () => {
    const { push: _, ...file } = imageWith();
    const { context: asked } = await context();
    const { context: notAsked } = await context('none');
    expect(mayFallBack(asked, imageWith(), new Error('any'))).toBe(true);
    expect(mayFallBack(asked, file, new Error('any'))).toBe(false);
    expect(mayFallBack(notAsked, imageWith(), new Error('any'))).toBe(false);
  });

  it('never for wrong credentials, however deep they are, nor after a cancel', async () => {
    const { context: asked, cancel } = await context();
    expect(mayFallBack(asked, imageWith(), registryError('auth'))).toBe(false);
    expect(mayFallBack(asked, imageWith(), new Error('x', { cause: registryError('denied') }))).toBe(false);
    expect(mayFallBack(asked, imageWith(), registryError('reset'))).toBe(true);
    cancel.abort();
    expect(mayFallBack(asked, imageWith(), registryError('reset'))).toBe(false);
  });
});

describe('pushByEngine', () => {
  it('pushes what failed, tag by tag, and nothing else', async () => {
    const { context: asked, events } = await context();
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

  it('leaves the first failure where the engine fails too', async () => {
    const { context: asked, events } = await context();
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
