/**
 * Image references: `[registry/]repository[:tag][@digest]`.
 * The grammar is that of https://github.com/distribution/reference (reference.go, normalize.go), so that a name means
 * here what it means to docker; the OCI distribution-spec, section "Pulling manifests", allows the same tags and names.
 */

import { isIPv6 } from 'node:net';
import { ImageError } from '../common/error.ts';
import { type Digest, isDigest } from './types.ts';

export interface Reference {
  /** `host[:port]`, lower-case; `docker.io` for Docker Hub under any of its names. */
  readonly registry: string;
  /** Where the registry's API is: `registry`, but `registry-1.docker.io` for Docker Hub. */
  readonly apiHost: string;
  /** The complete path, lower-case; with `library/` for Docker Hub's official images. */
  readonly repository: string;
  readonly tag?: string;
  readonly digest?: Digest;
  /** Whether upper-case letters of the repository were lowered: worth a notice. */
  readonly lowered: boolean;
}

/** reference.go, RepositoryNameTotalLengthMax. */
const MAX_NAME_LENGTH = 255;
/**
 * A name, a tag (128), a digest (71) and their separators, with some room for other digests to be named in the error.
 */
const MAX_TEXT_LENGTH = 600;
/** As much of an overlong text is shown. */
const SHOWN_LENGTH = 100;
const MAX_PORT = 65535;
const HOST_LABELS = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$/;
const PATH_COMPONENT = /^[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const EXAMPLE = 'write it as registry.example.com/team/app:1.2';

/**
 * Reads an image reference as docker does. Tag and digest may both be there: whether that is allowed is the caller's
 * question. Throws ImageError (step Reference) that names the text, what is wrong with it, and a right example.
 */
export function parseReference(text: string): Reference {
  const shown = text.length > MAX_TEXT_LENGTH ? `${text.slice(0, SHOWN_LENGTH)}…` : text;
  const fail = (problem: string): never => {
    throw new ImageError('Reference', `${JSON.stringify(shown)} is not an image reference: ${problem}`, {
      remedy: EXAMPLE,
    });
  };
  if (text === '') fail('it is empty');
  if (text.length > MAX_TEXT_LENGTH) return fail(`it is longer than ${MAX_TEXT_LENGTH} characters`);
  if (/[\s\p{Cc}]/u.test(text)) fail('it has a space or a control character in it');
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) fail('it is a URL, a reference has no scheme');
  const parts = splitReference(text);
  if (parts.digest !== undefined && !isDigest(parts.digest)) {
    fail(`the digest ${JSON.stringify(parts.digest)} is not sha256: and 64 lower-case hex digits`);
  }
  if (parts.tag !== undefined && !TAG.test(parts.tag)) {
    fail(
      `the tag ${JSON.stringify(parts.tag)} is not 1 to 128 letters, digits, "_", "." or "-", the first no "." or "-"`,
    );
  }
  const { host, path } = splitHost(parts.name);
  const registry = host === undefined ? DOCKER_HUB : normaliseHost(host, fail);
  const lower = path.toLowerCase();
  const repository = registry === DOCKER_HUB && !lower.includes('/') ? `library/${lower}` : lower;
  checkRepository(registry, repository, parts, fail);
  return {
    registry,
    apiHost: apiHost(registry),
    repository,
    ...(parts.tag === undefined ? {} : { tag: parts.tag }),
    ...(parts.digest === undefined ? {} : { digest: parts.digest as Digest }),
    lowered: lower !== path,
  };
}

/** A reference in full: `docker.io/library/alpine:3`, `[::1]:5000/a/b@sha256:…`. */
export function formatReference(reference: Reference): string {
  const { registry, repository, tag, digest } = reference;
  return `${registry}/${repository}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
}

/** The same repository under a tag or a digest alone, instead of what the reference had. */
export function withTarget(reference: Reference, target: { tag: string } | { digest: Digest }): Reference {
  const { registry, apiHost, repository, lowered } = reference;
  return { registry, apiHost, repository, lowered, ...target };
}

/** The reference with docker's default tag, `latest`, when it has neither tag nor digest. */
export const withDefaultTag = (reference: Reference): Reference =>
  reference.tag === undefined && reference.digest === undefined ? { ...reference, tag: 'latest' } : reference;

/** A reference's text cut at its separators; nothing is checked. The colon of a port is not that of a tag. */
export function splitReference(text: string): { name: string; tag?: string; digest?: string } {
  const at = text.indexOf('@');
  const rest = at < 0 ? text : text.slice(0, at);
  const digest = at < 0 ? {} : { digest: text.slice(at + 1) };
  const colon = rest.indexOf(':', rest.lastIndexOf('/') + 1);
  if (colon < 0 || isIPv6Start(rest)) return { name: rest, ...digest };
  return { name: rest.slice(0, colon), tag: rest.slice(colon + 1), ...digest };
}

/** Whether two names mean the same image to docker: `fx:one` and `docker.io/library/fx:one`. */
export function sameReference(one: string, other: string): boolean {
  if (one === other) return true;
  try {
    const [a, b] = [one, other].map((text) => formatReference(withDefaultTag(parseReference(text))));
    return a === b;
  } catch {
    return false;
  }
}

type Fail = (problem: string) => never;

/** Whether all that there is, is a bracketed host: its colons part no tag. */
const isIPv6Start = (rest: string): boolean => rest.startsWith('[') && !rest.includes('/');

/**
 * normalize.go, splitDockerDomain: the first component is a host when it has a dot, a colon, or is `localhost`. There
 * an upper-case letter makes it a host too; here it does not, since a user's `MyOrg/app` never means a host MyOrg.
 */
function splitHost(name: string): { host?: string; path: string } {
  const slash = name.indexOf('/');
  const first = name.slice(0, Math.max(slash, 0));
  if (slash < 0 || !(/[.:[\]]/.test(first) || first.toLowerCase() === 'localhost')) return { path: name };
  return { host: first, path: name.slice(slash + 1) };
}

function normaliseHost(host: string, fail: Fail): string {
  const lower = host.toLowerCase();
  const parts = /^(\[[^\]]*\]|[^:[\]]*)(?::(.*))?$/.exec(lower);
  const [name, port] = [parts?.[1] ?? '', parts?.[2]];
  const isHost = name.startsWith('[') ? isIPv6(name.slice(1, -1)) && !name.includes('%') : HOST_LABELS.test(name);
  if (!parts || !isHost)
    fail(`${JSON.stringify(host)} is not a host name, an IPv4 address, or an IPv6 address in brackets`);
  if (port !== undefined && !(/^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= MAX_PORT)) {
    fail(`the port ${JSON.stringify(port)} is not a number from 1 to ${MAX_PORT}`);
  }
  return canonicalHost(lower);
}

function checkRepository(
  registry: string,
  repository: string,
  parts: { name: string; tag?: string },
  fail: Fail,
): void {
  if (/^[0-9a-f]{64}$/.test(parts.name) || (parts.name === 'sha256' && /^[0-9a-f]{12,64}$/.test(parts.tag ?? ''))) {
    fail('it is an image ID, which names no repository');
  }
  if (repository === '' || repository === 'library/') fail('it names no repository');
  const wrong = repository.split('/').find((component) => !PATH_COMPONENT.test(component));
  if (wrong !== undefined) {
    fail(`the part ${JSON.stringify(wrong)} is not letters and digits, parted by ".", "_", "__" or "-"`);
  }
  if (registry.length + 1 + repository.length > MAX_NAME_LENGTH) {
    fail(`its name is longer than ${MAX_NAME_LENGTH} characters`);
  }
}

// Docker Hub's names: one registry that workflows, Docker's config file and its API write in different ways.
// https://github.com/distribution/reference (defaultDomain, legacyDefaultDomain)

/** The name in references, and the canonical one here. */
export const DOCKER_HUB = 'docker.io';

/** Where its API is. */
const DOCKER_HUB_API = 'registry-1.docker.io';

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
