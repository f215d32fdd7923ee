/** Each contestant on each engine: what is prepared before a run, and what is measured. */

import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { docker, partOfDocker } from '../../__tests__/support/real/docker.ts';
import { commandOf } from '../../__tests__/support/real/parts.ts';
import type { Compression } from '../../src/blob/compress/compression.ts';
import { type ImageRecipe, nameOf, type Version } from './images.ts';
import { crane, pushByAction, runTool, skopeo, type Told } from './tools.ts';
import type { EngineName, World } from './world.ts';

export interface Contestant {
  readonly name: string;
  /** The engine whose daemons' CPU and temporary files count. */
  readonly engine?: EngineName;
  /** Before the clock starts: what the registry holds, tags, an engine without memory of pushes. */
  prepare(): Promise<void>;
  run(): Promise<Told>;
  /** Keeps what the registry holds after the first run under this name, for pushes to a registry that has something. */
  readonly keepAs?: string;
  /** The same push by another build of the action: the folder of its action.yml and dist. */
  by?(action: string): Contestant;
}

/** What a push is about, and over which link it goes (the registry itself unless told). */
export interface Push {
  readonly world: World;
  readonly engine: EngineName;
  readonly recipe: ImageRecipe;
  readonly version?: Version;
  readonly host?: string;
  /** What the registry holds before; nothing unless told. */
  readonly before?: string;
  readonly keepAs?: string | undefined;
}

/** Where images go. */
export const REPOSITORY = 'bench/app:latest';

const referenceOf = ({ world, host }: Push): string => `${host ?? world.registry.host}/${REPOSITORY}`;

/** Where temporary files of the tools go, so that they can be counted. */
export const toolTemp = (world: World): string => join(world.temp, 'tmp');
/** Where our spool goes. */
export const runnerTemp = (world: World): string => join(world.temp, 'runner-temp');

async function prepareRegistry({ world, before }: Push): Promise<void> {
  if (before === undefined) await world.state.wipe();
  else await world.state.restore(before);
}

const common = (push: Push) => ({
  engine: push.engine,
  ...(push.keepAs === undefined ? {} : { keepAs: push.keepAs }),
});

/** Our action, in one of its ways. */
export const ours = (
  push: Push,
  compression: Compression,
  way: 'save' | 'store',
  label = '',
  inputs: Readonly<Record<string, string>> = {},
  action = push.world.action,
): Contestant => ({
  ...common(push),
  name: `chunked-push ${compression}, ${way}${label}`,
  prepare: () => prepareRegistry(push),
  by: (other) => ours({ ...push, keepAs: undefined }, compression, way, label, inputs, other),
  run: async () => {
    const { env } = await push.world.engine(push.engine);
    return pushByAction({
      action,
      inputs: {
        image: nameOf(push.recipe, push.version ?? 'v1'),
        tags: referenceOf(push),
        engine: 'docker',
        compression,
        export: way,
        ...inputs,
      },
      env,
      temp: runnerTemp(push.world),
    });
  },
});

/** Our action with an archive as its source. */
export const oursFromArchive = (
  push: Push,
  compression: Compression,
  label = '',
  inputs: Readonly<Record<string, string>> = {},
  action = push.world.action,
): Contestant => ({
  name: `chunked-push ${compression}${label}`,
  prepare: () => push.world.state.wipe(),
  by: (other) => oursFromArchive(push, compression, label, inputs, other),
  run: async () =>
    pushByAction({
      action,
      inputs: {
        image: `docker-archive:${await push.world.archive(push.recipe)}`,
        tags: referenceOf(push),
        compression,
        ...inputs,
      },
      env: {},
      temp: runnerTemp(push.world),
    }),
});

/** `docker push`; with `fresh` by an engine that was restarted without its memory of pushes, as on a fresh machine. */
export const dockerPush = (push: Push, options: { fresh?: boolean; label?: string } = {}): Contestant => ({
  ...common(push),
  name: `docker push${options.label ?? ''}`,
  prepare: async () => {
    if (options.fresh) await push.world.forgetPushes(push.engine);
    const engine = await push.world.engine(push.engine);
    await docker(engine, 'tag', nameOf(push.recipe, push.version ?? 'v1'), referenceOf(push));
    await prepareRegistry(push);
  },
  run: async () => {
    const { version, env } = await push.world.engine(push.engine);
    return runTool([[commandOf(partOfDocker(version), 'docker'), 'push', '--quiet', referenceOf(push)]], env);
  },
});

/** `docker save` alone, its bytes thrown away: what no push by `save` can undercut. Told with the seconds to its first byte. */
export const dockerSave = (push: Push): Contestant => ({
  ...common(push),
  name: 'docker save alone',
  prepare: async () => {},
  run: async () => {
    const { version, env } = await push.world.engine(push.engine);
    return saveToNothing([commandOf(partOfDocker(version), 'docker'), 'save', nameOf(push.recipe, 'v1')], env);
  },
});

const saveToNothing = ([program = '', ...args]: readonly string[], env: NodeJS.ProcessEnv): Promise<Told> =>
  new Promise((resolve, reject) => {
    const started = performance.now();
    const since = () => (performance.now() - started) / 1000;
    const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] });
    let firstByte = 0;
    child.stdout.once('data', () => {
      firstByte = since();
    });
    child.stdout.pipe(createWriteStream('/dev/null'));
    child.once('error', reject);
    child.once('close', (code) => {
      const metadata = { bytesSent: 0, spoolPeak: 0, seconds: { firstByte } };
      resolve({ seconds: since(), metadata, ...(code === 0 ? {} : { failed: `exit code ${code}` }) });
    });
  });

const compressedAs = (compression: Compression): readonly string[] =>
  compression === 'zstd' ? ['--dest-compress-format', 'zstd'] : [];

const SKOPEO_COPY = ['copy', '--quiet', '--insecure-policy', '--dest-tls-verify=false'];

/** `skopeo copy docker-daemon:`. */
export const skopeoDaemon = (push: Push): Contestant => ({
  ...common(push),
  name: 'skopeo copy docker-daemon:',
  prepare: () => prepareRegistry(push),
  run: async () => {
    const { host, env } = await push.world.engine(push.engine);
    const from = ['--src-daemon-host', host, `docker-daemon:${nameOf(push.recipe, 'v1')}`];
    const command = [...skopeo(), ...SKOPEO_COPY, ...from, `docker://${referenceOf(push)}`];
    return runTool([command], { ...env, TMPDIR: toolTemp(push.world) });
  },
});

/** `skopeo copy docker-archive:`. */
export const skopeoArchive = (push: Push, compression: Compression): Contestant => ({
  name: `skopeo copy docker-archive: ${compression}`,
  prepare: () => prepareRegistry(push),
  run: async () => {
    const from = `docker-archive:${await push.world.archive(push.recipe)}`;
    const command = [...skopeo(), ...SKOPEO_COPY, ...compressedAs(compression), from, `docker://${referenceOf(push)}`];
    return runTool([command], { TMPDIR: toolTemp(push.world) });
  },
});

/** `crane push` of an archive on disk; none where crane can't be had. */
export function cranePush(push: Push): Contestant[] {
  const command = crane();
  if (!command) return [];
  const run = async () =>
    runTool([[...command, 'push', '--insecure', await push.world.archive(push.recipe), referenceOf(push)]], {});
  return [{ name: 'crane push', prepare: () => prepareRegistry(push), run }];
}

/** `docker save` into a file, then `crane push`; none where crane can't be had. */
export function saveAndCrane(push: Push): Contestant[] {
  const command = crane();
  if (!command) return [];
  const file = join(toolTemp(push.world), 'saved.tar');
  const run = async () => {
    const { version, env } = await push.world.engine(push.engine);
    const save = [commandOf(partOfDocker(version), 'docker'), 'save', '--output', file, nameOf(push.recipe, 'v1')];
    return runTool([save, [...command, 'push', '--insecure', file, referenceOf(push)]], env);
  };
  return [{ ...common(push), name: 'docker save + crane push', prepare: () => prepareRegistry(push), run }];
}

/** `podman push` from storage of its own. */
export const podmanPush = (push: Push): Contestant => ({
  name: 'podman push',
  prepare: async () => {
    await push.world.podman(push.recipe);
    await prepareRegistry(push);
  },
  run: async () => {
    const { env } = await push.world.podman(push.recipe);
    const command = [
      'push',
      '--quiet',
      '--tls-verify=false',
      `docker.io/${nameOf(push.recipe, 'v1')}`,
      referenceOf(push),
    ];
    return runTool([[commandOf('podman', 'podman'), ...command]], { ...env, TMPDIR: toolTemp(push.world) });
  },
});
