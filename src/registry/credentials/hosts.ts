/** The keys of credential files: which registry, and perhaps which part of it, an entry is for. */
import { isDockerHub } from '../origin.ts';

/** The name under which Docker keeps Docker Hub's credentials. https://github.com/docker/cli/blob/master/cli/config/configfile/file.go */
export const DOCKER_HUB_KEY = 'https://index.docker.io/v1/';

/** A host in its one form: lower case, and all of Docker Hub's names as one. Ports stay: another port is another registry. */
export function canonicalHost(host: string): string {
  const lower = host.toLowerCase();
  return isDockerHub(lower) ? 'docker.io' : lower;
}

/**
 * A key as `host[:port][/namespace…]` in canonical form. Old clients wrote URLs (`https://host/v1/`), Podman writes namespaces.
 * Hosts are compared as wholes: `example.com` is neither `example.com.evil.org` nor `my-example.com`.
 */
export function canonicalKey(key: string): string {
  const withoutScheme = key.replace(/^https?:\/\//i, '');
  const [host = '', ...path] = withoutScheme.split('/').filter((part, index) => index === 0 || part !== '');
  const isApi = path.length === 1 && /^v[12]$/.test(path[0]!);
  return [canonicalHost(host), ...(isApi ? [] : path)].join('/');
}

/**
 * The keys that may hold credentials for these repositories of a registry, most specific first: `host/team/app`, `host/team`, `host`.
 * With several repositories only what they have in common, since a push asks as one user.
 * https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md
 */
export function candidateKeys(registry: string, repositories: readonly string[]): string[] {
  const host = canonicalHost(registry);
  const [first = [], ...others] = repositories.map((repository) => repository.split('/'));
  const common = first.findIndex((part, index) => others.some((other) => other[index] !== part));
  const depth = common < 0 ? first.length : common;
  const namespaces = Array.from({ length: depth }, (_, index) => first.slice(0, depth - index).join('/'));
  return [...namespaces.map((namespace) => `${host}/${namespace}`), host];
}
