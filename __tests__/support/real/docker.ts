/** Real Docker engines on private folders and sockets. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HOSTED_ID } from './hosted-user.ts';
import { commandOf, type PartName, pathWith } from './parts.ts';
import { asRoot, isRoot, privateFolder, run, type Server, startServer } from './processes.ts';

export interface DockerOptions {
  /** `debian`: the system's own (Debian 12: 20.10); `trixie` (26.1) and `sid` (28.5): unpacked beside it. */
  readonly version: 'debian' | 'trixie' | 'sid';
  /** `overlay2`: the classic store of uncompressed layers; `vfs`: the same by plain copies; `containerd`: the containerd image store. */
  readonly store: 'overlay2' | 'vfs' | 'containerd';
  /** An absolute folder for the engine's files that outlives it; one that goes with the engine without it. */
  readonly dataRoot?: string;
}

/** How a running engine is reached: plain data, so that test files in other processes can share one. */
export interface DockerAddress extends DockerOptions {
  /** For DOCKER_HOST. */
  readonly host: string;
  /** What a client needs: DOCKER_HOST, a DOCKER_CONFIG of its own, and a PATH that finds the engine's own client first. */
  readonly env: Readonly<Record<'DOCKER_HOST' | 'DOCKER_CONFIG' | 'PATH', string>>;
  /** The engine's own files: what `docker info` calls DockerRootDir. */
  readonly dataRoot: string;
  readonly pid: number;
}

export interface Docker extends DockerAddress {
  stop(): Promise<void>;
}

/** The part that brings an engine of this version. */
export const partOfDocker = (version: DockerOptions['version']): PartName =>
  version === 'debian' ? 'docker' : `docker-${version}`;

/** A socket of the system's own containerd: dockerd would share its content store, so it gets one of its own then. */
const SYSTEM_CONTAINERD = '/run/containerd/containerd.sock';

/** Starts an engine (as root, by `sudo -n` where need be) and waits until it answers. Throws an Error with its log. */
export const startDocker = async (options: DockerOptions): Promise<Docker> => {
  const part = partOfDocker(options.version);
  const dockerd = commandOf(part, 'dockerd');
  const folder = privateFolder('docker');
  const address = addressOf(options, part, folder);
  writeFileSync(join(folder, 'daemon.json'), JSON.stringify(configOf(options)));
  const containerd = existsSync(SYSTEM_CONTAINERD) ? startContainerd(part, folder, address.dataRoot) : undefined;
  const server = startServer({
    folder,
    command: [dockerd, ...argumentsOf(folder, address), ...(containerd ? ['--containerd', socketOf(folder)] : [])],
    env: { ...process.env, PATH: address.env.PATH },
    root: true,
  });
  const stop = async () => {
    await server.stop();
    await containerd?.stop();
  };
  try {
    const pid = await server.until(() => answering(address, folder));
    return { ...address, pid, stop };
  } catch (error) {
    await stop();
    throw error;
  }
};

/** Runs the engine's client and gives what it prints. Throws an Error with all its output when it fails. */
export const docker = (engine: DockerAddress, ...args: readonly string[]): Promise<string> =>
  run(commandOf(partOfDocker(engine.version), 'docker'), args, {
    env: { ...process.env, ...engine.env },
    timeout: 600_000,
  });

const addressOf = (options: DockerOptions, part: PartName, folder: string): Omit<DockerAddress, 'pid'> => {
  const host = `unix://${folder}/docker.sock`;
  return {
    version: options.version,
    store: options.store,
    host,
    env: { DOCKER_HOST: host, DOCKER_CONFIG: join(folder, 'config'), PATH: pathWith(part) },
    dataRoot: options.dataRoot ?? join(folder, 'data'),
  };
};

/** Which store is the default differs by release: Docker 29 keeps fresh installs in containerd. */
const configOf = ({ store }: DockerOptions): object => ({
  features: { 'containerd-snapshotter': store === 'containerd' },
  ...(store === 'containerd' ? {} : { 'storage-driver': store }),
});

/** No bridge and no firewall rules: images are built, saved, pushed and pulled, never run. */
const argumentsOf = (
  folder: string,
  { dataRoot, host }: Pick<DockerAddress, 'dataRoot' | 'host'>,
): readonly string[] => [
  ...['--config-file', join(folder, 'daemon.json')],
  ...['--data-root', dataRoot],
  ...['--exec-root', join(folder, 'exec')],
  ...['--pidfile', join(folder, 'docker.pid')],
  ...['--host', host],
  ...['--group', String(isRoot() ? HOSTED_ID : process.getgid!())],
  ...['--bridge=none', '--iptables=false', '--ip6tables=false'],
];

const socketOf = (folder: string): string => join(folder, 'exec/containerd/containerd.sock');

/** A containerd on the very folders that dockerd gives one that it starts itself. */
const startContainerd = (part: PartName, folder: string, dataRoot: string): Server =>
  startServer({
    folder: privateFolder('containerd'),
    command: [
      ...[commandOf(part, 'containerd'), '--address', socketOf(folder)],
      ...['--root', join(dataRoot, 'containerd/daemon'), '--state', join(folder, 'exec/containerd/daemon')],
    ],
    env: { ...process.env, PATH: pathWith(part) },
    root: true,
  });

const answering = async (address: Omit<DockerAddress, 'pid'>, folder: string): Promise<number | undefined> => {
  if (!existsSync(join(folder, 'docker.sock'))) return undefined;
  try {
    await docker({ ...address, pid: 0 }, 'info');
    const [program = 'cat', ...args] = asRoot(['cat', join(folder, 'docker.pid')]);
    return Number(await run(program, args));
  } catch {
    return undefined;
  }
};

/** Pulls a reference, first dropping what the engine has under that name, and gives the image's ID as the engine shows it. */
export const dockerPull = async (engine: DockerAddress, reference: string): Promise<string> => {
  await docker(engine, 'image', 'rm', '--force', reference).catch(() => undefined);
  await docker(engine, 'pull', '--quiet', reference);
  return imageIdOf(engine, reference);
};

/** The ID of an image as the engine shows it. */
export const imageIdOf = async (engine: DockerAddress, reference: string): Promise<string> =>
  (await docker(engine, 'image', 'inspect', '--format', '{{.Id}}', reference)).trim();
