/** What the benchmark runs on: real engines whose files outlive them, a registry, a proxy with a limit, archives, and the action as it is now. */
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Docker, type DockerOptions, docker, startDocker } from '../../__tests__/support/real/docker.ts';
import { type Nginx, startNginx } from '../../__tests__/support/real/nginx.ts';
import { unpackedRoot } from '../../__tests__/support/real/parts.ts';
import { type Podman, startPodman } from '../../__tests__/support/real/podman.ts';
import { privateFolder, removeFolder, run } from '../../__tests__/support/real/processes.ts';
import { type DockerRegistry, startDockerRegistry } from '../../__tests__/support/real/registry.ts';
import { copyAction } from '../../__tests__/support/runner.ts';
import { buildVersions, hasImage, type ImageRecipe, nameOf, type Version } from './images.ts';
import { descendant } from './meter.ts';
import { RegistryState } from './registry-state.ts';

/** Docker 28.5 with each of its image stores, and Docker 20.10 of Debian 12. */
export type EngineName = 'overlay2' | 'containerd' | 'docker20';

const ENGINES: Readonly<Record<EngineName, DockerOptions>> = {
  overlay2: { version: 'sid', store: 'overlay2' },
  containerd: { version: 'sid', store: 'containerd' },
  docker20: { version: 'debian', store: 'overlay2' },
};

/** Where the results, and between two runs the engines and their images, are kept. Two benchmarks at once need two folders: an engine has its files to itself. */
export const benchFolder = process.env.CHUNKED_PUSH_BENCH_FOLDER ?? join(unpackedRoot, 'bench');

/** What a proxy in front of many registries allows. */
const LIMIT = '100m';

export class World {
  readonly registry: DockerRegistry;
  readonly limited: Nginx;
  readonly registryPid: number | undefined;
  readonly state: RegistryState;
  /** A copy of action.yml and dist: a build meanwhile does not change what is measured. */
  readonly action: string;
  /** For temporary files of this run. */
  readonly temp: string;
  readonly #engines = new Map<EngineName, Promise<Docker>>();
  /** What was brought somewhere or is on its way, so that parts can be prepared side by side. */
  readonly #brought = new Map<string, Promise<void>>();
  #podman: Promise<Podman> | undefined;
  #source: Promise<DockerRegistry> | undefined;

  private constructor(registry: DockerRegistry, limited: Nginx) {
    this.registry = registry;
    this.limited = limited;
    this.registryPid = descendant('docker-registry');
    this.state = new RegistryState(registry.storage);
    this.action = privateFolder('action');
    this.temp = privateFolder('bench');
    copyAction(this.action);
  }

  static async start(): Promise<World> {
    const registry = await startDockerRegistry();
    return new World(registry, await startNginx({ upstream: registry.host, clientMaxBodySize: LIMIT }));
  }

  /** An engine, started when it is asked for first. */
  engine(name: EngineName): Promise<Docker> {
    const running = this.#engines.get(name) ?? startDocker({ ...ENGINES[name], dataRoot: dataRootOf(name) });
    this.#engines.set(name, running);
    return running;
  }

  /** Restarts an engine without what it remembers of pushes: what a fresh machine with this image knows. */
  async forgetPushes(name: EngineName): Promise<void> {
    await (await this.engine(name)).stop();
    this.#engines.delete(name);
    rmSync(join(dataRootOf(name), 'image/overlay2/distribution'), { recursive: true, force: true });
    await this.engine(name);
  }

  /** Builds an image in Docker 28.5 with overlay2, and brings it into the engine that is asked for, where it is not there yet. */
  async have(name: EngineName, recipe: ImageRecipe, versions: readonly Version[]): Promise<void> {
    // In order: the second version is built on what is there of the first.
    for (const version of versions)
      await this.#once(`${nameOf(recipe, version)} in ${name}`, () => this.#bring(name, recipe, version));
  }

  /** Does what has a name once, for all who ask for it. */
  #once(name: string, work: () => Promise<void>): Promise<void> {
    const brought = this.#brought.get(name) ?? work();
    this.#brought.set(name, brought);
    return brought;
  }

  async #bring(name: EngineName, recipe: ImageRecipe, version: Version): Promise<void> {
    const engine = await this.engine(name);
    if (name === 'overlay2') return buildVersions(engine, recipe, [version]);
    if (await hasImage(engine, nameOf(recipe, version))) return;
    if (name === 'docker20') await docker(engine, 'load', '--input', await this.archive(recipe));
    else await this.#overPull(engine, recipe, version);
  }

  /** By push and pull, so that the containerd image store has gzip layers as after a build with BuildKit, not the plain ones of `load`. */
  async #overPull(engine: Docker, recipe: ImageRecipe, version: Version): Promise<void> {
    await this.have('overlay2', recipe, [version]);
    const builder = await this.engine('overlay2');
    const between = await startDockerRegistry();
    try {
      const reference = `${between.host}/between:${version}`;
      await docker(builder, 'tag', nameOf(recipe, version), reference);
      await docker(builder, 'push', '--quiet', reference);
      await docker(engine, 'pull', '--quiet', reference);
      await docker(engine, 'tag', reference, nameOf(recipe, version));
      await Promise.all([builder, engine].map((each) => docker(each, 'image', 'rm', reference)));
    } finally {
      await between.stop();
    }
  }

  /** The image's first version as a file, as `docker save` of 28.5 with overlay2 writes it. */
  async archive(recipe: ImageRecipe): Promise<string> {
    const file = join(benchFolder, `${recipe.name}.tar`);
    await this.#once(file, async () => {
      if (existsSync(file)) return;
      await this.have('overlay2', recipe, ['v1']);
      await docker(await this.engine('overlay2'), 'save', '--output', file, nameOf(recipe, 'v1'));
    });
    return file;
  }

  /** Another registry that has the image's first version, as `docker push` of 28.5 with overlay2 puts it. */
  async source(recipe: ImageRecipe): Promise<{ readonly host: string; readonly repository: string }> {
    this.#source ??= startDockerRegistry();
    const { host } = await this.#source;
    const repository = `source/${recipe.name}:v1`;
    await this.#once(`${nameOf(recipe, 'v1')} in another registry`, async () => {
      await this.have('overlay2', recipe, ['v1']);
      const engine = await this.engine('overlay2');
      await docker(engine, 'tag', nameOf(recipe, 'v1'), `${host}/${repository}`);
      await docker(engine, 'push', '--quiet', `${host}/${repository}`);
      await docker(engine, 'image', 'rm', `${host}/${repository}`);
    });
    return { host, repository };
  }

  /** Podman's storage with the image's first version in it. */
  async podman(recipe: ImageRecipe): Promise<Podman> {
    this.#podman ??= startPodman();
    const podman = await this.#podman;
    await this.#once(`${nameOf(recipe, 'v1')} in podman`, async () => {
      await podman.run('load', '--quiet', '--input', await this.archive(recipe));
    });
    return podman;
  }

  /** Ends all servers; with `keep` the engines' images and the archives stay for the next run. */
  async stop(keep: boolean): Promise<void> {
    // One that did not start has nothing to be stopped.
    const running = await Promise.allSettled([...this.#engines.values(), this.#podman]);
    await Promise.all(running.map((one) => (one.status === 'fulfilled' ? one.value?.stop() : undefined)));
    await this.limited.stop();
    await this.registry.stop();
    await (await this.#source?.catch(() => undefined))?.stop();
    removeFolder(this.action);
    removeFolder(this.temp);
    if (keep) return;
    await run('sh', ['-c', `rm -rf --one-file-system '${benchFolder}'/engine-* '${benchFolder}'/*.tar`], {
      timeout: 600_000,
    });
  }
}

function dataRootOf(name: EngineName): string {
  const folder = join(benchFolder, `engine-${name}`);
  mkdirSync(folder, { recursive: true });
  return folder;
}
