/** Which addresses belong to a registry, which of them may be followed, and how they are shown. */
import { BlockList, isIP } from 'node:net';

/** The names of Docker Hub: all are one registry. https://github.com/distribution/reference (defaultDomain, legacyDefaultDomain) */
const DOCKER_HUB_NAMES: ReadonlySet<string> = new Set([
  'docker.io',
  'index.docker.io',
  'registry-1.docker.io',
  'registry.hub.docker.com',
]);

/** The host that Docker Hub's API lives on. */
const DOCKER_HUB_API = 'registry-1.docker.io';

/** Whether a host is one of Docker Hub's names. */
export const isDockerHub = (host: string): boolean => DOCKER_HUB_NAMES.has(host.toLowerCase());

/** `host[:port]` of an image reference as the host to talk to. */
export const apiHost = (host: string): string => (isDockerHub(host) ? DOCKER_HUB_API : host.toLowerCase());

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');
LOOPBACK.addAddress('0.0.0.0', 'ipv4');
LOOPBACK.addAddress('::', 'ipv6');

/** Link-local ranges, and AWS's IPv6 address of the same instance metadata service: there lie a machine's own credentials. */
const LINK_LOCAL = new BlockList();
LINK_LOCAL.addSubnet('169.254.0.0', 16, 'ipv4');
LINK_LOCAL.addSubnet('fe80::', 10, 'ipv6');
LINK_LOCAL.addAddress('fd00:ec2::254', 'ipv6');

const bareHost = (url: URL): string => url.hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '');

function listed(list: BlockList, host: string): boolean {
  const family = isIP(host);
  return family !== 0 && list.check(host, family === 4 ? 'ipv4' : 'ipv6');
}

/** Whether a URL's host is this machine: 127.0.0.0/8, ::1, localhost (RFC 6761, 6.3), and the unspecified addresses that reach it. */
export function isLoopback(url: URL): boolean {
  const host = bareHost(url);
  return host === 'localhost' || host.endsWith('.localhost') || listed(LOOPBACK, host);
}

/** Whether a URL's host is a link-local address: the place of cloud metadata services. */
export const isLinkLocal = (url: URL): boolean => listed(LINK_LOCAL, bareHost(url));

/** Whether two URLs have scheme, host and port in common: the only place where credentials and cookies may go. */
export const sameOrigin = (one: URL, other: URL): boolean => one.origin === other.origin;

/**
 * Why an address that a registry named (Location, redirect, token realm) must not be followed; undefined when it may.
 * A registry, or whoever can change its answers, could else have us send image bytes or credentials in the clear, or make
 * requests in our name to services that only this machine can reach.
 */
export function unsafeTarget(registry: URL, target: URL): string | undefined {
  if (target.protocol !== 'https:' && target.protocol !== 'http:') return `has the scheme ${target.protocol}`;
  if (target.username !== '' || target.password !== '') return 'carries a user name or password';
  if (sameOrigin(registry, target)) return undefined;
  if (registry.protocol === 'https:' && target.protocol === 'http:') return 'leaves HTTPS for plain HTTP';
  if (isLinkLocal(target)) return 'is a link-local address';
  if (isLoopback(target) && !isLoopback(registry)) return 'is a loopback address';
  return undefined;
}

/** Query values that say something and give nothing away. All others may be signatures, states or tokens. */
const HARMLESS: ReadonlySet<string> = new Set([
  'digest',
  'mount',
  'from',
  'n',
  'last',
  'service',
  'scope',
  'artifactType',
]);

/** A URL for logs and messages: without userinfo and fragment, with unknown query values left out. */
export function safeUrl(url: URL): string {
  const query = [...url.searchParams].map(([name, value]) => (HARMLESS.has(name) ? `${name}=${value}` : `${name}=…`));
  const text = `${url.origin}${url.pathname}${query.length > 0 ? `?${query.join('&')}` : ''}`;
  return text.replace(/[\x00-\x20\x7f-\x9f\u2028\u2029]+/g, '…');
}
