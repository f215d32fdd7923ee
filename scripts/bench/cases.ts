/** What is measured: cases, each with its contestants, in the order in which a run that is cut short loses least. */
import {
  type Contestant,
  cranePush,
  dockerPush,
  dockerSave,
  ours,
  oursFromArchive,
  type Push,
  podmanPush,
  saveAndCrane,
  skopeoArchive,
  skopeoDaemon,
} from './contestants.ts';
import { type ImageRecipe, nameOf } from './images.ts';
import { copyContestants } from './registry-copy.ts';
import type { EngineName, World } from './world.ts';

export interface Case {
  readonly name: string;
  readonly title: string;
  /** The contestant that ratios are to. */
  readonly reference: string;
  /** Brings the images where they are needed. */
  setup(world: World, recipe: ImageRecipe): Promise<void>;
  /** Brings about what the registry must have had before, where no earlier case has left it. */
  begin?(world: World, recipe: ImageRecipe): Promise<void>;
  contestants(world: World, recipe: ImageRecipe): readonly Contestant[];
}

/** States of the registry that later cases begin with; the cold case leaves them behind. */
const stateOf = (tool: 'ours' | 'docker', engine: EngineName, { name }: ImageRecipe): string =>
  `${tool}-${engine}-${name}`;

/** Brings about the states that a case needs where no earlier case has left them. */
async function haveStates(world: World, recipe: ImageRecipe, engine: EngineName): Promise<void> {
  const push: Push = { world, recipe, engine };
  for (const [tool, contestant] of [
    ['ours', ours(push, 'gzip', 'store')],
    ['docker', dockerPush(push)],
  ] as const) {
    const name = stateOf(tool, engine, recipe);
    if (world.state.has(name)) continue;
    await contestant.prepare();
    const { failed } = await contestant.run();
    if (failed !== undefined) throw new Error(`${contestant.name} of ${nameOf(recipe, 'v1')}: ${failed}`);
    await world.state.keep(name);
  }
}

const both = ['v1', 'v2'] as const;

export const CASES: readonly Case[] = [
  {
    name: 'overlay2-cold',
    title: 'Docker 28.5, overlay2, cold',
    reference: 'docker push',
    setup: (world, recipe) => world.have('overlay2', recipe, both),
    contestants: (world, recipe) => {
      const push: Push = { world, recipe, engine: 'overlay2' };
      return [
        dockerPush({ ...push, keepAs: stateOf('docker', 'overlay2', recipe) }),
        ours(push, 'gzip', 'save'),
        ours({ ...push, keepAs: stateOf('ours', 'overlay2', recipe) }, 'gzip', 'store'),
        ours(push, 'zstd', 'save'),
        ours(push, 'zstd', 'store'),
        skopeoDaemon(push),
        dockerSave(push),
      ];
    },
  },
  warm('overlay2', 'unchanged', 'fresh runner, unchanged'),
  warm('overlay2', 'changed', 'fresh runner, one layer of 2 MB changed'),
  {
    name: 'containerd-cold',
    title: 'Docker 28.5, containerd image store, cold',
    reference: 'docker push',
    setup: (world, recipe) => world.have('containerd', recipe, both),
    contestants: (world, recipe) => {
      const push: Push = { world, recipe, engine: 'containerd' };
      const limited: Push = { ...push, host: world.limited.host };
      const label = ', behind 100 MB';
      return [
        dockerPush({ ...push, keepAs: stateOf('docker', 'containerd', recipe) }),
        ours({ ...push, keepAs: stateOf('ours', 'containerd', recipe) }, 'gzip', 'store'),
        ours(limited, 'gzip', 'store', label),
        dockerSave(push),
        ours(push, 'gzip', 'save'),
        ours(limited, 'gzip', 'save', label),
        dockerPush(limited, { label }),
        skopeoDaemon(push),
      ];
    },
  },
  warm('containerd', 'changed', 'fresh runner, one layer of 2 MB changed'),
  {
    name: 'archive',
    title: 'From a docker-archive file',
    reference: 'skopeo copy docker-archive: gzip',
    setup: async (world, recipe) => void (await world.archive(recipe)),
    contestants: (world, recipe) => {
      const push: Push = { world, recipe, engine: 'overlay2' };
      return [
        skopeoArchive(push, 'gzip'),
        oursFromArchive(push, 'gzip'),
        skopeoArchive(push, 'zstd'),
        oursFromArchive(push, 'zstd'),
        ...cranePush(push),
      ];
    },
  },
  {
    name: 'level3',
    title: 'gzip with compression-level 3: smaller, and slower',
    reference: 'chunked-push gzip, store, level 3',
    setup: async (world, recipe) => void (await world.archive(recipe)),
    contestants: (world, recipe) => {
      const push: Push = { world, recipe, engine: 'overlay2' };
      const inputs = { 'compression-level': '3' };
      return [
        ours(push, 'gzip', 'store', ', level 3', inputs),
        oursFromArchive(push, 'gzip', ', archive, level 3', inputs),
        ours(push, 'gzip', 'save', ', level 3', inputs),
      ];
    },
  },
  {
    name: 'docker20',
    title: 'Docker 20.10, overlay2, cold',
    reference: 'docker push',
    setup: (world, recipe) => world.have('docker20', recipe, ['v1']),
    contestants: (world, recipe) => {
      const push: Push = { world, recipe, engine: 'docker20' };
      return [dockerPush(push), ours(push, 'gzip', 'save'), ours(push, 'gzip', 'store')];
    },
  },
  {
    name: 'registry-copy',
    title: 'From one registry to another one',
    reference: 'skopeo copy docker://',
    setup: async (world, recipe) => void (await world.source(recipe)),
    contestants: copyContestants,
  },
  {
    name: 'others',
    title: 'Other tools, cold',
    reference: 'docker save + crane push',
    setup: async (world, recipe) => void (await world.podman(recipe)),
    contestants: (world, recipe) => {
      const push: Push = { world, recipe, engine: 'overlay2' };
      return [...saveAndCrane(push), podmanPush(push)];
    },
  },
];

/** The registry has what an earlier push by the same tool left there; the machine knows nothing. */
function warm(engine: EngineName, what: 'unchanged' | 'changed', title: string): Case {
  const store = engine === 'overlay2' ? 'overlay2' : 'containerd image store';
  return {
    name: `${engine}-${what}`,
    title: `Docker 28.5, ${store}, ${title}`,
    reference: 'docker push',
    setup: (world, recipe) => world.have(engine, recipe, both),
    begin: (world, recipe) => haveStates(world, recipe, engine),
    contestants: (world, recipe) => {
      const push: Push = { world, recipe, engine, version: what === 'changed' ? 'v2' : 'v1' };
      const known: Push = { ...push, before: stateOf('ours', engine, recipe) };
      const byStore = ours(known, 'gzip', 'store');
      return [
        dockerPush({ ...push, before: stateOf('docker', engine, recipe) }, { fresh: true }),
        ...(what === 'changed' ? [ours(known, 'gzip', 'save'), byStore] : [byStore]),
      ];
    },
  };
}
