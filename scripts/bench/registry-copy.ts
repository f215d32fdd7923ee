/** From one registry to another one, beside the tools that copy images: on this machine, and with a round trip to both. */
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Contestant, REPOSITORY, runnerTemp, toolTemp } from './contestants.ts';
import type { ImageRecipe } from './images.ts';
import { crane, pushByAction, runTool, skopeo, type Told } from './tools.ts';
import { startUplink } from './uplink.ts';
import type { World } from './world.ts';

/** Of the way to either registry. */
const ROUND_TRIPS_MS = [0, 30] as const;
/** 1 Gbit/s to the registry that is written to. */
const BYTES_PER_SECOND = 125_000_000;

/** Two registries as a tool is told of them: `host:port`, and references in them. */
interface Between {
  readonly hosts: readonly [from: string, to: string];
  readonly from: string;
  readonly to: string;
}

interface Copier {
  readonly name: string;
  copy(world: World, between: Between): Promise<Told>;
}

const OURS: Copier = {
  name: 'chunked-push docker://',
  copy: (world, { from, to }) =>
    pushByAction({
      action: world.action,
      inputs: { image: `docker://${from}`, tags: to },
      env: {},
      temp: runnerTemp(world),
    }),
};

const SKOPEO: Copier = {
  name: 'skopeo copy docker://',
  copy: (world, { from, to }) => {
    const insecure = ['--insecure-policy', '--src-tls-verify=false', '--dest-tls-verify=false'];
    const command = [...skopeo(), 'copy', '--quiet', '--all', ...insecure, `docker://${from}`, `docker://${to}`];
    return runTool([command], { TMPDIR: toolTemp(world) });
  },
};

/** The copiers of this machine: crane where Debian sid can be had, regctl where somebody has installed it. */
function copiers(): readonly Copier[] {
  const others: Copier[] = [];
  const byCrane = crane();
  if (byCrane)
    others.push({
      name: 'crane copy',
      copy: (_, { from, to }) => runTool([[...byCrane, 'copy', '--insecure', from, to]], {}),
    });
  const regctl = inPath('regctl');
  if (regctl)
    others.push({
      name: 'regctl image copy',
      copy: (world, { hosts, from, to }) => {
        const plain = hosts.flatMap((host) => ['--host', `reg=${host},tls=disabled`]);
        return runTool([[regctl, ...plain, 'image', 'copy', from, to]], { TMPDIR: toolTemp(world) });
      },
    });
  return [SKOPEO, OURS, ...others];
}

const inPath = (program: string): string | undefined =>
  (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, program))
    .find((path) => existsSync(path));

/** Each copier, with and without a round trip. */
export const copyContestants = (world: World, recipe: ImageRecipe): readonly Contestant[] =>
  ROUND_TRIPS_MS.flatMap((roundTripMs) =>
    copiers().map(
      ({ name, copy }): Contestant => ({
        name: roundTripMs === 0 ? name : `${name}, ${roundTripMs} ms`,
        prepare: () => world.state.wipe(),
        run: async () => {
          const source = await world.source(recipe);
          const betweenHosts = (from: string, to: string): Between => ({
            hosts: [from, to],
            from: `${from}/${source.repository}`,
            to: `${to}/${REPOSITORY}`,
          });
          if (roundTripMs === 0) return copy(world, betweenHosts(source.host, world.registry.host));
          const link = { bytesPerSecond: BYTES_PER_SECOND, roundTripMs };
          const links = await Promise.all(
            [source.host, world.registry.host].map((target) => startUplink({ ...link, target })),
          );
          try {
            return await copy(world, betweenHosts(links[0]!.host, links[1]!.host));
          } finally {
            await Promise.all(links.map((each) => each.close()));
          }
        },
      }),
    ),
  );
