import { describe, expect, it } from 'vitest';
import { mountSources } from '../../src/push/known-layers.ts';

const FROM = ['a/one', 'team/app/two', 'b/three', 'team/four', 'c/five', 'team/app'];

describe('mountSources', () => {
  it.each([
    [1000, 1],
    [100 * 1024, 1],
    [100 * 1024 + 1, 3],
    [undefined, 3],
    [10 * 1024 * 1024 + 1, 4],
  ])('tries more repositories the more there is to send: %s bytes, %i tries', (size, tries) => {
    expect(mountSources(FROM, 'team/app', size)).toHaveLength(tries);
  });

  it('begins with those that share most of the path, and leaves the repository itself out', () => {
    expect(mountSources(FROM, 'team/app', 2e7)).toEqual(['team/app/two', 'team/four', 'a/one', 'b/three']);
  });
});
