/** What `docker info` tells of the engine's store. */

/** The part of it that is read here. https://docs.docker.com/reference/api/engine/ (SystemInfo) */
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
