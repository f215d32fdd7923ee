import { expect, it } from 'vitest';
import { DEFAULT_CHUNK_SIZE } from '../../../src/blob/blob.ts';
import { GROWING_CHUNK_SIZE, HostCapabilities } from '../../../src/registry/host/capabilities.ts';
import type { RegistryEvent } from '../../../src/registry/host/context.ts';
import { profileFor } from '../../../src/registry/host/profiles.ts';

const MIB = 2 ** 20;
const REFUSAL = new Error('413 Request Entity Too Large');

function host(
  chunkSize: number | 'auto',
  name = 'registry.example',
): { known: HostCapabilities; events: RegistryEvent[] } {
  const events: RegistryEvent[] = [];
  const known = new HostCapabilities({
    host: name,
    profile: profileFor(name),
    chunkSize,
    onEvent: (event) => events.push(event),
  });
  return { known, events };
}

const announce = (max?: string, min?: string): Record<string, string> => ({
  ...(max === undefined ? {} : { 'oci-chunk-max-length': max }),
  ...(min === undefined ? {} : { 'oci-chunk-min-length': min }),
});

it('auto is 95 MB until the registry announces something', () => {
  const { known, events } = host('auto');
  expect(known.chunkSize()).toBe(99_614_720);
  expect(known.knownLimit).toBe(Infinity);
  known.announce(announce('100000000', '5242880'));
  known.announce(announce('100000000', '5242880'));
  expect(known.chunkSize()).toBe(100_000_000);
  expect(known.limitFound).toBe(100_000_000);
  expect(events).toEqual([{ type: 'limit', host: 'registry.example', bytes: 100_000_000, announced: true }]);
});

it('the user is never exceeded, and never exceeds the registry', () => {
  const { known } = host(50 * MIB);
  known.announce(announce('100000000'));
  expect(known.chunkSize()).toBe(50 * MIB);
  known.announce(announce('10000000'));
  expect(known.chunkSize()).toBe(10_000_000);
  expect(known.knownLimit).toBe(10_000_000);
});

it('a blob that is still being made has chunks of 16 MiB, or what fits', () => {
  expect(host('auto').known.chunkSize(GROWING_CHUNK_SIZE)).toBe(16 * MIB);
  expect(host(MIB).known.chunkSize(GROWING_CHUNK_SIZE)).toBe(MIB);
  const { known } = host('auto');
  known.announce(announce(undefined, String(40 * MIB)));
  expect([known.firstChunk(GROWING_CHUNK_SIZE), known.chunkSize(GROWING_CHUNK_SIZE)]).toEqual([40 * MIB, 40 * MIB]);
});

it.each([['0'], ['-1'], ['12.5'], ['1e9'], ['many'], ['']])('an announced length of %j says nothing', (header) => {
  const { known } = host('auto');
  known.announce(announce(header, header));
  expect([known.limitFound, known.chunkSize()]).toEqual([undefined, DEFAULT_CHUNK_SIZE]);
});

it('a minimum over the default is kept, unless it is absurd', () => {
  const { known } = host('auto');
  known.announce(announce(undefined, String(200 * MIB)));
  expect(known.chunkSize()).toBe(200 * MIB);
  known.announce(announce(undefined, String(2 * 2 ** 30)));
  expect(() => known.chunkSize()).toThrow(/at least 2147483648 bytes.*may be sent is 99614720/);
});

it('a minimum over the user’s chunk size is an error that says what to set', () => {
  const { known } = host(MIB);
  known.announce(announce('100000000', '5242880'));
  expect(() => known.chunkSize()).toThrow(
    expect.objectContaining({
      message: expect.stringMatching(/at least 5242880 bytes.*chunk-size allows 1048576 bytes/),
      remedy: 'set chunk-size to 5242880 or more',
    }),
  );
});

it('a minimum over the announced maximum is an error', () => {
  const { known } = host('auto');
  known.announce(announce('5000000', '5242880'));
  expect(() => known.chunkSize()).toThrow(/at least 5242880 bytes.*5000000/);
});

it('a refused size is halved, for everybody, and told once when it holds', () => {
  const { known, events } = host('auto');
  known.refused(DEFAULT_CHUNK_SIZE, REFUSAL);
  // Four other uploads were on their way with the same size.
  for (let n = 0; n < 4; n += 1) known.refused(DEFAULT_CHUNK_SIZE, REFUSAL);
  expect(known.chunkSize()).toBe(DEFAULT_CHUNK_SIZE / 2);
  known.refused(DEFAULT_CHUNK_SIZE / 2, REFUSAL);
  known.acceptedChunk(DEFAULT_CHUNK_SIZE / 4);
  known.acceptedChunk(DEFAULT_CHUNK_SIZE / 4);
  expect(events).toEqual([
    { type: 'limit', host: 'registry.example', bytes: DEFAULT_CHUNK_SIZE / 4, announced: false },
  ]);
  expect(known.limitFound).toBe(DEFAULT_CHUNK_SIZE / 4);
});

it('halving ends at 64 KiB, and at the registry’s minimum', () => {
  const { known } = host(100 * 1024);
  expect(() => known.refused(100 * 1024, REFUSAL)).toThrow(/refuses a body of 102400 bytes: 413/);
  const serverless = host('auto').known;
  serverless.announce(announce('100000000', '5242880'));
  expect(() => serverless.refused(6_000_000, REFUSAL)).toThrow(
    /6000000 bytes, and the registry asks for chunks of at least 5242880/,
  );
});

it('resets are about size only where nobody has taken so much', () => {
  const { known } = host('auto');
  expect(known.canShrink(10 * MIB)).toBe(true);
  known.acceptedChunk(10 * MIB);
  expect(known.canShrink(10 * MIB)).toBe(false);
  expect(known.canShrink(20 * MIB)).toBe(true);
  expect(known.canShrink(100 * 1024)).toBe(false);
});

it('Range is believed until it stalled twice, or the profile knows better', () => {
  const { known } = host('auto');
  known.stalled();
  expect(known.rangeIsStale).toBe(false);
  known.stalled();
  expect(known.rangeIsStale).toBe(true);
  const ecr = host('auto', '1.dkr.ecr.eu-west-1.amazonaws.com').known;
  expect([ecr.rangeIsStale, ecr.lastChunkInPut, ecr.chunkSize()]).toEqual([true, true, 20 * MIB]);
});

it('a suspected limit is found when a smaller body is taken, forgotten when a larger one is', () => {
  const { known } = host('auto');
  known.suspect(DEFAULT_CHUNK_SIZE);
  expect([known.largestBody, known.limitFound, known.knownLimit]).toEqual([
    DEFAULT_CHUNK_SIZE / 2,
    undefined,
    Infinity,
  ]);
  known.accepted(DEFAULT_CHUNK_SIZE);
  expect(known.largestBody).toBe(DEFAULT_CHUNK_SIZE);
  const other = host('auto').known;
  other.suspect(DEFAULT_CHUNK_SIZE);
  other.accepted(1000);
  expect([other.largestBody, other.limitFound]).toEqual([DEFAULT_CHUNK_SIZE / 2, undefined]);
  other.acceptedChunk(DEFAULT_CHUNK_SIZE / 2);
  expect(other.limitFound).toBe(DEFAULT_CHUNK_SIZE / 2);
});

it('a blob that has room for little at once gets small chunks, but none below the minimum', () => {
  const { known } = host('auto');
  expect([known.firstChunk(4 * MIB), known.chunkSize(4 * MIB)]).toEqual([4 * MIB, 4 * MIB]);
  expect(known.nextChunk(4 * MIB, 4 * MIB, false)).toBe(4 * MIB);
  known.announce({ 'oci-chunk-min-length': String(5 * MIB) });
  expect([known.firstChunk(4 * MIB), known.chunkSize(4 * MIB)]).toEqual([5 * MIB, 5 * MIB]);
});

const SECOND = 1000;

it('chunks take about 20 s at the speed that was seen, in whole mebibytes, and at least one', () => {
  const { known } = host('auto');
  known.measured(10 * MIB, 10 * SECOND);
  expect(known.chunkSize()).toBe(20 * MIB);
  known.measured(10 * MIB, 2 * SECOND);
  // The recent ones count more: 3 MiB/s.
  expect(known.chunkSize()).toBe(60 * MIB);
  for (let n = 0; n < 20; n += 1) known.measured(2 * MIB, 100 * SECOND);
  expect([known.chunkSize(), known.largestBody]).toEqual([MIB, MIB]);
});

it('a fast link changes nothing, and small bodies say nothing of the speed', () => {
  const { known } = host('auto');
  known.measured(95 * MIB, SECOND);
  known.measured(MIB - 1, 100 * SECOND);
  expect(known.chunkSize()).toBe(DEFAULT_CHUNK_SIZE);
});

it('the limits of the user and of the registry hold on a slow link too', () => {
  const user = host(512 * 1024).known;
  user.measured(2 * MIB, 100 * SECOND);
  expect(user.chunkSize()).toBe(512 * 1024);
  const announced = host('auto').known;
  announced.announce(announce('100000000', String(5 * MIB)));
  announced.measured(2 * MIB, 100 * SECOND);
  expect(announced.chunkSize()).toBe(5 * MIB);
  const ecr = host('auto', '1.dkr.ecr.eu-west-1.amazonaws.com').known;
  ecr.measured(2 * MIB, 100 * SECOND);
  expect(ecr.chunkSize()).toBe(5 * MIB);
});

it('bodies that end by time are halved, down to 1 MiB, and what was found is reported once, with what sets it', () => {
  const { known, events } = host('auto');
  const sizes: number[] = [];
  while (known.tookTooLong(known.largestBody)) sizes.push(known.largestBody);
  expect(sizes).toEqual([49_807_360, 24_903_680, 12_451_840, 6_225_920, 3_112_960, 1_556_480, MIB]);
  known.acceptedChunk(MIB);
  known.acceptedChunk(MIB);
  expect(events).toEqual([{ type: 'limit', host: 'registry.example', bytes: MIB, announced: false, by: 'time' }]);
  // It is no limit of size: a blob that goes in one request is not held back by it.
  expect(known.knownLimit).toBe(Infinity);
});

it('a session keeps its chunk size, unless it takes too long', () => {
  const { known } = host('auto');
  known.measured(10 * MIB, 10 * SECOND);
  expect(known.nextChunk(25 * MIB, Infinity, false)).toBe(25 * MIB);
  expect(known.nextChunk(31 * MIB, Infinity, false)).toBe(20 * MIB);
  // Growing needs a reason too: not for a little.
  expect(known.nextChunk(10 * MIB, Infinity, false)).toBe(10 * MIB);
  expect(known.nextChunk(10 * MIB, Infinity, true)).toBe(20 * MIB);
  expect(known.nextChunk(5 * MIB, Infinity, false)).toBe(20 * MIB);
});

it.each([
  ['announces its lengths', (known: HostCapabilities) => known.announce(announce('100000000', '1048576'))],
  [
    'could not close a session with unequal chunks',
    (known: HostCapabilities) => {
      known.needsEqual = true;
    },
  ],
])('a registry that %s keeps the size of a session in any case', (_, prepare) => {
  const { known } = host('auto');
  prepare(known);
  known.measured(10 * MIB, 100 * SECOND);
  expect([known.needsEqualChunks, known.nextChunk(90 * MIB, Infinity, false)]).toEqual([true, 90 * MIB]);
  expect(known.chunkSize()).toBe(2 * MIB);
});
