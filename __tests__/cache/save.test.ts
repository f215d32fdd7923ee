import { expect, it } from 'vitest';
import { choose } from '../../src/cache/save.ts';
import type { Digest } from '../../src/oci/types.ts';

const MB = 1_000_000;
const layer = (name: string, size: number, secondsToMake: number) => ({
  diffId: `sha256:${name}` as Digest,
  size,
  secondsToMake,
});
const names = (layers: readonly { diffId: Digest }[]) => layers.map(({ diffId }) => diffId.slice(7));

it('what saves the fewest seconds a byte is dropped first', () => {
  const layers = [layer('dull', 50 * MB, 1), layer('dear', 50 * MB, 9), layer('fair', 50 * MB, 3)];
  const { kept, dropped } = choose(layers, 100 * MB);
  expect(names(kept)).toEqual(['dear', 'fair']);
  expect(dropped).toEqual([{ layer: layers[0], why: 'over cache-max-size (100000000 bytes)' }]);
});

it('a layer that is too large alone leaves the room to others', () => {
  const { kept } = choose([layer('huge', 200 * MB, 900), layer('small', 10 * MB, 1)], 100 * MB);
  expect(names(kept)).toEqual(['small']);
});

it('nothing is saved with a bound of 0, nor a layer of a few KiB', () => {
  expect(choose([layer('any', MB, 9)], 0).kept).toEqual([]);
  expect(choose([layer('tiny', 4096, 9)], MB).kept).toEqual([]);
});

it('one push makes at most fifty entries', () => {
  const { kept, dropped } = choose(
    Array.from({ length: 60 }, (_, at) => layer(String(at), MB, at)),
    100 * MB,
  );
  expect(kept).toHaveLength(50);
  expect(dropped[0]).toMatchObject({ why: 'over 50 new entries' });
  expect(names(dropped.map((each) => each.layer))).toContain('0');
});
