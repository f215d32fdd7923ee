/** Where an engine says that it keeps its images. Only what it says: the files tell whether it is so. */

import { readRegularSync } from '../../common/open-regular.ts';
import type { Digest } from '../../oci/types.ts';
import { type DockerInfo, isContainerdStore } from '../engine/history.ts';
import { StoreError } from './files/store-error.ts';

/** What is known of an image and its engine. */
export interface EngineFacts {
  readonly engine: 'docker' | 'podman';
  readonly imageId: Digest;
  readonly diffIds?: readonly Digest[];
  /** The manifest or index of an image in the containerd image store. Older engines do not tell it. */
  readonly root?: Digest;
  /** What `docker info` or `podman info` says, as JSON; asked only if it is needed. */
  info(): Promise<unknown>;
  /** DOCKER_HOST, DOCKER_CONTEXT, CONTAINER_HOST … */
  readonly env: NodeJS.ProcessEnv;
}

/** A kind of store, and the folders where it may be, the likeliest first. */
export interface StoreLocation {
  readonly kind: 'content' | 'overlay2' | 'podman';
  readonly roots: readonly string[];
}

/** The part of `podman info` that tells the store. */
interface PodmanInfo {
  readonly host?: { readonly serviceIsRemote?: boolean };
  readonly store?: { readonly graphDriverName?: string; readonly graphRoot?: string };
}

/** Where containerd keeps its content below its root. */
const CONTENT = 'io.containerd.content.v1.content';
const CONTAINERD_CONFIG = '/etc/containerd/config.toml';
/** Bytes. */
const MAX_CONFIG_BYTES = 1024 * 1024;
const CONTAINERD_ROOT = '/var/lib/containerd';
/** Where the system's containerd listens; one that dockerd starts has its socket below dockerd's own folder. */
const SYSTEM_SOCKET = /^(\/var)?\/run\/containerd\//;

/** Where the engine's store should be. Throws StoreError that names the obstacle when it is none that can be read here. */
export async function locate(facts: EngineFacts): Promise<StoreLocation> {
  if (process.platform !== 'linux') throw new StoreError(`on ${process.platform} the engine runs in a virtual machine`);
  assertLocal(facts);
  const info = await facts.info();
  return facts.engine === 'docker' ? docker((info ?? {}) as DockerInfo, facts) : podman((info ?? {}) as PodmanInfo);
}

/** An engine on another host has its files there. A context may name one too; then the image's files are not found here. */
function assertLocal({ engine, env }: EngineFacts): void {
  const name = engine === 'docker' ? 'DOCKER_HOST' : 'CONTAINER_HOST';
  const host = env[name];
  if (host && !/^(unix:|\/)/.test(host)) {
    throw new StoreError(`the engine is on another host: ${name} is ${host.replace(/\/\/[^/@]*@/, '//')}`);
  }
}

function docker(info: DockerInfo, { root }: EngineFacts): StoreLocation {
  const { Driver: driver, DockerRootDir: rootDir } = info;
  if (info.OperatingSystem === 'Docker Desktop') throw new StoreError('Docker Desktop runs in a virtual machine');
  if (!rootDir?.startsWith('/')) throw new StoreError('docker info does not name the folder of the engine');
  if (root !== undefined || isContainerdStore(info)) {
    return { kind: 'content', roots: contentRoots(rootDir, info.Containerd?.Address) };
  }
  if (driver !== 'overlay2')
    throw new StoreError(`Docker's storage driver is ${driver}, and only overlay2 can be read`);
  return { kind: 'overlay2', roots: [rootDir] };
}

/** The content stores of Docker's own containerd and of the system's; the socket tells which is the likelier. */
function contentRoots(rootDir: string, address: string | undefined): string[] {
  const own = `${rootDir}/containerd/daemon`;
  const system = [configuredRoot(), CONTAINERD_ROOT];
  const roots = address && SYSTEM_SOCKET.test(address) ? [...system, own] : [own, ...system];
  return [...new Set(roots.filter((root) => root !== undefined))].map((root) => `${root}/${CONTENT}`);
}

/** The `root` of the system's containerd, where its configuration sets one. */
function configuredRoot(): string | undefined {
  try {
    return /^root\s*=\s*["'](\/[^"']*)["']/m.exec(
      readRegularSync(CONTAINERD_CONFIG, MAX_CONFIG_BYTES).toString('utf8'),
    )?.[1];
  } catch {
    return undefined;
  }
}

function podman({ host, store }: PodmanInfo): StoreLocation {
  if (host?.serviceIsRemote) throw new StoreError('Podman is a client of a service elsewhere');
  if (!store?.graphRoot?.startsWith('/')) throw new StoreError('podman info does not name the folder of its storage');
  if (store.graphDriverName !== 'overlay') {
    throw new StoreError(`Podman's storage driver is ${store.graphDriverName}, and only overlay can be read`);
  }
  return { kind: 'podman', roots: [store.graphRoot] };
}
