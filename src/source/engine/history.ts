/**
 * The digest of an image's root in Docker's containerd image store, by `docker history`. Manifests, config and layers are
 * files named by their digest there, so nothing else is needed. `docker image inspect` reports that digest too and adds up
 * the sizes of all snapshots on the way (30 ms against 10 for a small image). The ID in the first row of the history is
 * the image's own: https://github.com/moby/moby/blob/v28.5.2/daemon/containerd/image_history.go
 */
import { type Digest, isDigest } from '../../oci/types.ts';
import { askDocker, type ImagePaths, INFO_PATH } from './docker-api.ts';

/** What the engine reports of an image's root and of itself. */
export interface RootAnswer {
  /** The digest of the image's manifest or index; undefined for a classic store and for an image without history. */
  readonly root: Digest | undefined;
  /** What `docker info` reports; undefined where the engine did not answer. */
  readonly info: Readonly<Record<string, unknown>> | undefined;
}

/** Asks for an image's history and for `docker info`. Throws the signal's reason. */
export async function askForRoot(socket: string, paths: ImagePaths, signal: AbortSignal): Promise<RootAnswer> {
  const [history, info] = await Promise.all([
    askDocker(socket, paths.history, signal),
    askDocker(socket, INFO_PATH, signal),
  ]);
  const id = (history?.[0] as { Id?: unknown } | null | undefined)?.Id;
  const isRoot = info !== undefined && isContainerdStore(info as DockerInfo) && isDigest(id);
  return { root: isRoot ? id : undefined, info };
}

/** The part of `docker info` that is read here. https://docs.docker.com/reference/api/engine/ (SystemInfo) */
export interface DockerInfo {
  readonly Driver?: string;
  readonly DriverStatus?: readonly (readonly [string, string])[] | null;
  readonly DockerRootDir?: string;
  readonly OperatingSystem?: string;
  readonly Containerd?: { readonly Address?: string } | null;
}

/** Whether the engine keeps its images in containerd (the containerd image store): an image's ID is its root's digest there. */
export const isContainerdStore = ({ DriverStatus: status }: DockerInfo): boolean =>
  Array.isArray(status) && new Map(status).get('driver-type') === 'io.containerd.snapshotter.v1';
