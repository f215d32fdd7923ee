/** What is measured of our action alone: memory and time by size, a slow uplink, start-up. */
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { freshRunner, runAction } from '../../__tests__/support/runner.ts';
import { type Contestant, ours, type Push } from './contestants.ts';
import { giant, type ImageRecipe, nameOf } from './images.ts';
import type { Results, Row } from './results.ts';
import type { Told } from './tools.ts';
import { startUplink } from './uplink.ts';
import type { World } from './world.ts';

const MB = 1_000_000;

/** Sizes at which memory and time are looked at; that of 1.6 GB is the benchmark's large image, measured in the cold case. */
export const MEMORY_SIZES: readonly ImageRecipe[] = [
  giant('0.2gb', 200 * MB),
  giant('0.8gb', 800 * MB),
  giant('1.6gb', 1700 * MB),
  giant('3.2gb', 3200 * MB),
];

/** Where one way at one size was measured: on its own, or in the cold case. */
export function sizeKey({ rows }: Results, { name: image }: ImageRecipe, name: string): string {
  const own = `${image}/memory/${name}`;
  return own in rows ? own : `${image}/overlay2-cold/${name}`;
}

/** What was measured of one way at one size. */
export const sizeRow = (results: Results, recipe: ImageRecipe, name: string): Row | undefined =>
  results.rows[sizeKey(results, recipe, name)];

/** Every way of compressing and reading, at one size. */
export const SIZE_WAYS = ['gzip, store', 'gzip, save', 'zstd, store', 'zstd, save'].map((way) => `chunked-push ${way}`);

export const memoryContestants = (world: World, recipe: ImageRecipe): readonly Contestant[] => {
  const push: Push = { world, recipe, engine: 'overlay2' };
  return (['gzip', 'zstd'] as const).flatMap((compression) => [
    ours(push, compression, 'store'),
    ours(push, compression, 'save'),
  ]);
};

/** 200 Mbit/s. */
export const UPLINK_BYTES = 25 * MB;
export const ROUND_TRIPS_MS = [0, 30] as const;

/** What is pushed over the uplink: ready layers out of the containerd store, and layers that are compressed on the way. */
const UPLINK_WAYS = [
  { engine: 'overlay2', way: 'store', label: '' },
  { engine: 'overlay2', way: 'save', label: '' },
  { engine: 'containerd', way: 'store', label: ', containerd' },
] as const;

/** Pushes over an uplink of 200 Mbit/s, with and without a round trip. */
export const uplinkContestants = (world: World, recipe: ImageRecipe): readonly Contestant[] =>
  ROUND_TRIPS_MS.flatMap((roundTripMs) =>
    UPLINK_WAYS.map(({ engine, way, label }): Contestant => {
      const over = (host: string) => ours({ world, recipe, engine, host }, 'gzip', way, `${label}, ${roundTripMs} ms`);
      const { name, prepare } = over('');
      return {
        name,
        engine,
        prepare,
        run: async () => {
          const link = await startUplink({ target: world.registry.host, bytesPerSecond: UPLINK_BYTES, roundTripMs });
          try {
            return await over(link.host).run();
          } finally {
            await link.close();
          }
        },
      };
    }),
  );

/** The time from the start of the process to its first request, and what Node alone takes to run nothing. */
export const startupContestants = (world: World, recipe: ImageRecipe): readonly Contestant[] => [
  {
    name: 'main to first request',
    engine: 'overlay2',
    prepare: async () => {},
    run: () => toFirstRequest(world, recipe),
  },
  { name: 'node with nothing to do', prepare: async () => {}, run: () => nodeAlone(world) },
];

/** A server that notes when it is asked first, and denies everything. */
async function toFirstRequest(world: World, recipe: ImageRecipe): Promise<Told> {
  let asked: number | undefined;
  const server = createServer((_request, response) => {
    asked ??= performance.now();
    response.writeHead(403).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { env } = await world.engine('overlay2');
  const runner = freshRunner();
  const tags = `127.0.0.1:${(server.address() as AddressInfo).port}/bench/app:1`;
  try {
    const started = performance.now();
    await runAction({ inputs: { image: nameOf(recipe, 'v1'), tags }, env, action: world.action, runner });
    if (asked === undefined) return { seconds: Number.NaN, failed: 'no request came' };
    return { seconds: (asked - started) / 1000 };
  } finally {
    runner.remove();
    server.close();
    server.closeAllConnections();
  }
}

const nodeAlone = (world: World): Promise<Told> =>
  new Promise((resolve, reject) => {
    const started = performance.now();
    const child = spawn(process.execPath, ['--eval', ''], { cwd: join(world.action), stdio: 'ignore' });
    child.once('error', reject);
    child.once('close', () => resolve({ seconds: (performance.now() - started) / 1000 }));
  });
