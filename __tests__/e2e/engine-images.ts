/** Every engine with a seeded image in it, as the end-to-end tests push it. */
import { buildImage, type ImageRecipe, loadImage } from '../support/images.ts';
import { type DockerOptions, docker, imageIdOf, partOfDocker } from '../support/real/docker.ts';
import { commandOf, type PartName } from '../support/real/parts.ts';
import { startPodman } from '../support/real/podman.ts';
import { sharedDocker } from '../support/real/suite.ts';

export interface EngineWithImage {
  /** For the action's environment. */
  readonly env: Readonly<Record<string, string>>;
  /** The image's ID as the engine shows it. */
  readonly imageId: string;
  /** The diffIDs that `image inspect` lists, from the base up. */
  readonly diffIds: readonly string[];
  /** Runs the engine's own client. */
  run(...args: readonly string[]): Promise<string>;
  /** Ends what belongs to this test file alone. */
  stop(): Promise<void>;
}

export interface EngineKind {
  readonly name: string;
  readonly part: PartName;
  /** Whether it keeps compressed layers and manifests of its own, whose digest a push must give. */
  readonly keepsManifests: boolean;
  start(reference: string, recipe: ImageRecipe, how?: 'build' | 'load'): Promise<EngineWithImage>;
}

const dockerEngine = (options: DockerOptions): EngineKind => ({
  name: `docker ${options.version} (${options.store})`,
  part: partOfDocker(options.version),
  keepsManifests: options.store === 'containerd',
  async start(reference, recipe, how = 'build') {
    const engine = await sharedDocker(options);
    const client = { command: commandOf(partOfDocker(options.version), 'docker'), env: engine.env };
    await (how === 'build' ? buildImage : loadImage)(client, reference, recipe);
    const run = (...args: readonly string[]) => docker(engine, ...args);
    return {
      env: engine.env,
      imageId: await imageIdOf(engine, reference),
      diffIds: await diffIdsOf(run, reference),
      run,
      stop: async () => void (await run('image', 'rm', '--force', reference)),
    };
  },
});

const podmanEngine: EngineKind = {
  name: 'podman',
  part: 'podman',
  keepsManifests: false,
  async start(reference, recipe, how = 'build') {
    const podman = await startPodman();
    await (how === 'build' ? buildImage : loadImage)(
      { command: commandOf('podman', 'podman'), env: podman.env },
      reference,
      recipe,
    );
    const id = (await podman.run('image', 'inspect', '--format', '{{.Id}}', reference)).trim();
    return { ...podman, imageId: `sha256:${id}`, diffIds: await diffIdsOf(podman.run, reference) };
  },
};

const diffIdsOf = async (run: EngineWithImage['run'], reference: string): Promise<readonly string[]> =>
  JSON.parse(await run('image', 'inspect', '--format', '{{json .RootFS.Layers}}', reference)) as string[];

/** The classic store of Debian's Docker 20.10, the containerd image store of Docker 26.1, and Debian's podman. */
export const ENGINES: readonly EngineKind[] = [
  dockerEngine({ version: 'debian', store: 'overlay2' }),
  dockerEngine({ version: 'trixie', store: 'containerd' }),
  podmanEngine,
];
