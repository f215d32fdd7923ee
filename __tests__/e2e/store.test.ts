/**
 * Each obstacle on the way past `docker save`: met by the real engines' own files and the committed dist, it ends in the same
 * good push by `save`, and with `export: store` in one clear error.
 */
import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ImageRecipe } from '../support/images.ts';
import { pullBack } from '../support/real/pull.ts';
import { describeWith } from '../support/real/suite.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import type { Step } from '../support/registry/steps.ts';
import { type ActionRun, freshRunner, runAction } from '../support/runner.ts';
import { type Damage, damage, OTHER_LAST_BYTE } from './store-damage.ts';
import { STORES, type StoreEngine, type StoreFiles, type StoreKind } from './store-engines.ts';

const MB = 1_000_000;
const IMAGE = 'e2e.example/store/app:1';

const recipe = (megabytes: number): ImageRecipe => ({
  seed: `store-${megabytes}`,
  layers: [
    { bytes: 300_000, files: 3 },
    { bytes: megabytes * MB, content: 'random' as const, files: 5 },
  ],
});

interface Obstacle {
  readonly name: string;
  readonly spoils: (files: StoreFiles) => string | undefined;
  readonly change: string;
  /** How it is named in the log, by a store of unpacked and of compressed layers. */
  readonly words: readonly [unpacked: string, compressed: string];
}

const OBSTACLES: readonly Obstacle[] = [
  {
    name: 'a file of a layer that is gone',
    spoils: ({ content }) => content,
    change: 'rm "$1"',
    words: ['ENOENT', 'it is not there'],
  },
  {
    name: 'a file of a layer that is another',
    spoils: ({ content }) => content,
    change: OTHER_LAST_BYTE,
    words: ['have the diffID sha256:', 'have the digest sha256:'],
  },
  {
    name: 'a file of a layer that is cut short',
    spoils: ({ content }) => content,
    change: 'truncate -s -1 "$1"',
    words: ["the layer's tar had", 'bytes where its descriptor says'],
  },
  {
    name: 'a damaged config',
    spoils: ({ config }) => config,
    change: 'printf " " >>"$1"',
    words: ['is damaged', 'is damaged'],
  },
  {
    name: 'a config that is gone',
    spoils: ({ config }) => config,
    change: 'rm "$1"',
    words: ['ENOENT', 'it is not there'],
  },
  {
    name: 'a layer without a record of its tar',
    spoils: ({ record }) => record,
    change: 'rm "$1"',
    words: ['no record of its tar', ''],
  },
  {
    name: 'a damaged record of its tar',
    spoils: ({ record }) => record,
    change: OTHER_LAST_BYTE,
    words: ['tar-split', ''],
  },
];

for (const kind of STORES) {
  describeWith([kind.part, 'skopeo'], `the store of ${kind.name}, spoiled`, () => {
    let engine: StoreEngine;
    let files: StoreFiles;

    beforeAll(async () => {
      engine = await kind.start(IMAGE, recipe(2));
      files = await engine.filesOf(IMAGE);
    }, 300_000);

    afterAll(() => engine?.stop());

    /** One push on a runner of its own. */
    const push = (registry: Registry, way: 'auto' | 'store', damaged: Damage) =>
      pushOn({ engine, path: damaged.path, registry, inputs: { export: way } });

    // The two releases of overlay2 keep their files alike: one of them meets everything.
    const all = kind.name === 'docker trixie (overlay2)' ? OBSTACLES.slice(1, 2) : OBSTACLES;
    const obstacles = all.filter(({ spoils }) => kind.unpacked || spoils({ ...OUTLINE, record: undefined }));

    it.each(obstacles)('$name: save pushes the image all the same', async ({ spoils, change, words }) => {
      const registry = await startRegistry();
      const damaged = await damage(kind, engine, { path: spoils(files)!, change });
      try {
        const { run, left } = await push(registry, 'auto', damaged);
        expect(run.errors).toEqual([]);
        expect(run.exitCode).toBe(0);
        await expectPushed(registry, run, engine, kind);
        expect(damaged.saves()).toBe(1);
        expect(run.debugs.join('\n')).toContain(words[kind.unpacked ? 0 : 1]);
        expect(run.debugs.join('\n')).toMatch(/save/);
        expect(left).toEqual([]);
      } finally {
        await damaged.mend();
        await registry.close();
      }
    });

    it.each(obstacles)('$name: export: store says so', async ({ spoils, change, words }) => {
      const registry = await startRegistry();
      const damaged = await damage(kind, engine, { path: spoils(files)!, change });
      try {
        const { run, left } = await push(registry, 'store', damaged);
        expect(run.exitCode).toBe(1);
        expect(run.errors).toEqual([expect.stringContaining(words[kind.unpacked ? 0 : 1])]);
        expect(run.errors[0]).toMatch(/set export: auto or save/);
        expect(run.outputs).not.toHaveProperty('digest');
        expect(damaged.saves()).toBe(0);
        expect(registry.tags('store/app')).toEqual([]);
        expect(registry.openSessions()).toBe(0);
        expect(left).toEqual([]);
      } finally {
        await damaged.mend();
        await registry.close();
      }
    });
  });
}

/** So many pushes at most until one has begun to send the layer before its wrong byte was read: mostly the first. */
const MIDWAY_TRIES = 5;

for (const kind of STORES) {
  describeWith([kind.part, 'skopeo'], `a large layer of ${kind.name} with a wrong last byte`, () => {
    let engine: StoreEngine;
    beforeAll(async () => {
      engine = await kind.start(IMAGE, recipe(40));
    }, 300_000);
    afterAll(() => engine?.stop());

    /** Pushes, and tells how many uploads were begun and how many of them deleted. */
    const pushSpoiled = async (): Promise<{ begun: number; deleted: number }> => {
      const registry = await startRegistry();
      const { content: path } = await engine.filesOf(IMAGE);
      const damaged = await damage(kind, engine, { path, change: OTHER_LAST_BYTE });
      try {
        const { run, left } = await pushOn({ engine, path: damaged.path, registry });
        expect(run.errors).toEqual([]);
        await expectPushed(registry, run, engine, kind);
        expect(damaged.saves()).toBe(1);
        expect(left).toEqual([]);
        const count = (step: Step) => registry.requests.filter((request) => request.step === step).length;
        return { begun: count('upload-post'), deleted: count('upload-delete') };
      } finally {
        await damaged.mend();
        await registry.close();
      }
    };

    it('is dropped in the middle of its upload: the session is deleted, and save gives the layer', async () => {
      // The config and two layers need an upload each; one more was begun in vain.
      let pushed = await pushSpoiled();
      for (let tries = 1; pushed.begun === 3 && tries < MIDWAY_TRIES; tries += 1) pushed = await pushSpoiled();
      expect(pushed).toEqual({ begun: 4, deleted: 1 });
    }, 300_000);
  });
}

/** Only which of them there are. */
const OUTLINE: StoreFiles = { config: 'config', content: 'content', record: 'record', layer: [], documents: [] };

interface PushOptions {
  readonly engine: Pick<StoreEngine, 'env'>;
  readonly registry: Registry;
  readonly path?: string;
  readonly inputs?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
}

/** Pushes the image in chunks that are smaller than its top layer, and tells which files are left on the runner. */
async function pushOn({
  engine,
  registry,
  path,
  inputs,
  env,
}: PushOptions): Promise<{ run: ActionRun; left: string[] }> {
  const runner = freshRunner();
  try {
    const run = await runAction({
      inputs: { image: IMAGE, tags: `${registry.host}/store/app:1`, 'chunk-size': '1MB', cache: 'false', ...inputs },
      // As on GitHub's runners: where the tests do not run as root, the store is read by sudo.
      env: { ...engine.env, ...(path ? { PATH: path } : {}), RUNNER_ENVIRONMENT: 'github-hosted', ...env },
      runner,
    });
    const entries = readdirSync(runner.temp, { recursive: true, withFileTypes: true });
    return { run, left: entries.filter((entry) => !entry.isDirectory()).map(({ name }) => name) };
  } finally {
    runner.remove();
  }
}

/** The registry has the image as the engine knows it, and nothing else. */
async function expectPushed(registry: Registry, run: ActionRun, engine: StoreEngine, kind: StoreKind): Promise<void> {
  const pulled = await pullBack(`${registry.host}/store/app:1`);
  expect(run.outputs.digest).toBe(pulled.digest);
  expect(kind.keepsManifests ? pulled.digest : pulled.configDigest).toBe(engine.imageId);
  expect(pulled.diffIds).toEqual(engine.diffIds);
  const blobs = [pulled.configDigest, ...pulled.manifest.layers.map(({ digest }) => digest)];
  expect([...registry.blobs('store/app')].sort()).toEqual([...new Set<string>(blobs)].sort());
  expect(registry.tags('store/app')).toEqual(['1']);
  expect(registry.openSessions()).toBe(0);
}
