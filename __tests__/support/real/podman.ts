/** Debian's podman on storage of its own: no daemon, so it is nothing but an environment. */
import { chownSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { HostedUser } from './hosted-user.ts';
import { commandOf, pathWith } from './parts.ts';
import { privateFolder, removeFolder, run } from './processes.ts';

export interface Podman {
  /** What makes any `podman` use this storage: PATH, CONTAINERS_STORAGE_CONF, CONTAINERS_CONF, CONTAINERS_REGISTRIES_CONF, XDG_RUNTIME_DIR, HOME. */
  readonly env: Readonly<Record<string, string>>;
  /** Its graph root: where layers lie. */
  readonly storage: string;
  /** Runs podman and gives what it prints. Throws an Error with all its output when it fails. */
  run(...args: readonly string[]): Promise<string>;
  stop(): Promise<void>;
}

export interface PodmanOptions {
  readonly driver?: 'overlay' | 'vfs';
  /** The ordinary user who has it, the one of this process unless told. The driver is `vfs` then, which needs no rights. */
  readonly user?: HostedUser;
}

/** Prepares private storage for the podman that is installed, for the user who runs the tests or for another one. */
export const startPodman = async (options: PodmanOptions = {}): Promise<Podman> => {
  const command = commandOf('podman', 'podman');
  const folder = privateFolder('podman');
  const storage = join(folder, 'storage');
  const env = {
    PATH: pathWith('podman'),
    HOME: folder,
    XDG_RUNTIME_DIR: join(folder, 'runtime'),
    ...configure(folder, storage, options.user ? { ...options, driver: 'vfs' } : options),
  };
  mkdirSync(env.XDG_RUNTIME_DIR, { mode: 0o700 });
  const { user } = options;
  if (user) for (const path of ['', ...readdirSync(folder)]) chownSync(join(folder, path), user.uid, user.gid);
  const [program = command, ...before] = user?.command([command]) ?? [command];
  const podman = (...args: readonly string[]) =>
    run(program, [...before, ...args], { env, cwd: folder, timeout: 600_000 });
  return {
    env,
    storage,
    run: podman,
    stop: async () => {
      // Unmounts what may be mounted, and removes files of other users that rootless podman made.
      await podman('system', 'reset', '--force').catch(() => undefined);
      removeFolder(folder);
    },
  };
};

const configure = (folder: string, storage: string, { driver = 'overlay' }: PodmanOptions) => {
  const write = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  return {
    CONTAINERS_STORAGE_CONF: write(
      'storage.conf',
      `[storage]\ndriver = "${driver}"\ngraphroot = "${storage}"\nrunroot = "${folder}/run"\n`,
    ),
    CONTAINERS_CONF: write(
      'containers.conf',
      `[engine]\ntmp_dir = "${folder}/tmp"\nevents_logger = "none"\ncgroup_manager = "cgroupfs"\n`,
    ),
    CONTAINERS_REGISTRIES_CONF: write('registries.conf', '[[registry]]\nlocation = "127.0.0.1"\ninsecure = true\n'),
  };
};
