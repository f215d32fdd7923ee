/**
 * Docker Hub's names: one registry that workflows, Docker's config file and its API write in different ways.
 * https://github.com/distribution/reference (defaultDomain, legacyDefaultDomain)
 */

/** The name in references, and the canonical one here. */
export const DOCKER_HUB = 'docker.io';

/** Where its API is. */
export const DOCKER_HUB_API = 'registry-1.docker.io';

/**
 * The key of its credentials in Docker's config file and credential helpers. https://github.com/docker/cli,
 * cli/registry
 */
export const DOCKER_HUB_KEY = 'https://index.docker.io/v1/';

const NAMES: ReadonlySet<string> = new Set([DOCKER_HUB, 'index.docker.io', DOCKER_HUB_API, 'registry.hub.docker.com']);

/** Whether a host (any case) is one of Docker Hub's names. */
export const isDockerHub = (host: string): boolean => NAMES.has(host.toLowerCase());

/** `host[:port]` in its canonical spelling: lower case, and Docker Hub under any of its names as `docker.io`. */
export const canonicalHost = (host: string): string => (isDockerHub(host) ? DOCKER_HUB : host.toLowerCase());

/** `host[:port]` of an image reference as the host to talk to. */
export const apiHost = (host: string): string => (isDockerHub(host) ? DOCKER_HUB_API : host.toLowerCase());
