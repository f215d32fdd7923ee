/** Which addresses belong to a registry, which of them may be followed, and how they are shown. */
import { lookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');
LOOPBACK.addAddress('0.0.0.0', 'ipv4');
LOOPBACK.addAddress('::', 'ipv6');

/**
 * Link-local ranges, and the other addresses of instance metadata services: there lie a machine's own credentials. IPv4
 * rules are for IPv4-mapped IPv6 addresses too.
 */
const LINK_LOCAL = new BlockList();
LINK_LOCAL.addSubnet('169.254.0.0', 16, 'ipv4');
LINK_LOCAL.addSubnet('fe80::', 10, 'ipv6');
// The same by NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), SIIT (RFC 7915), and as IPv4-compatible (RFC 4291, 2.5.5.1).
for (const prefix of ['64:ff9b::', '64:ff9b:1::', '::ffff:0:', '::'])
  LINK_LOCAL.addSubnet(`${prefix}a9fe:0`, 112, 'ipv6');
LINK_LOCAL.addSubnet('2002:a9fe::', 32, 'ipv6');
for (const address of ['fd00:ec2::254', 'fd20:ce::254']) LINK_LOCAL.addAddress(address, 'ipv6'); // AWS, Google Cloud
for (const address of ['168.63.129.16', '100.100.100.200', '192.0.0.192']) LINK_LOCAL.addAddress(address, 'ipv4'); // Azure, Alibaba, Oracle

const bareHost = (url: URL): string => url.hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '');

function listed(list: BlockList, host: string): boolean {
  const family = isIP(host);
  return family !== 0 && list.check(host, family === 4 ? 'ipv4' : 'ipv6');
}

/**
 * Whether a URL's host is this machine: 127.0.0.0/8, ::1, localhost (RFC 6761, 6.3), and the unspecified addresses that
 * reach it.
 */
export function isLoopback(url: URL): boolean {
  const host = bareHost(url);
  return host === 'localhost' || host.endsWith('.localhost') || listed(LOOPBACK, host);
}

/** Whether a URL's host is a link-local address: the place of cloud metadata services. */
export const isLinkLocal = (url: URL): boolean => listed(LINK_LOCAL, bareHost(url));

/** The code of the error for a name that leads to a link-local address. */
export const UNSAFE_ADDRESS = 'ERR_UNSAFE_ADDRESS';

/**
 * `dns.lookup` for hosts that a registry named: a name may lead to a link-local address as well as the address itself.
 */
export const guardedLookup: LookupFunction = (hostname, options, callback) =>
  lookup(hostname, { ...options, all: true }, (error, found) => {
    const addresses = error === null ? found : [];
    const unsafe = addresses.find(({ address }) => listed(LINK_LOCAL, address));
    const refusal = Object.assign(new Error(`${hostname} is ${unsafe?.address}`), { code: UNSAFE_ADDRESS });
    if (error !== null || unsafe !== undefined) return callback(error ?? refusal, []);
    if (options.all === true) return callback(null, addresses);
    const [first] = addresses;
    callback(null, first?.address ?? '', first?.family);
  });

/** Whether two URLs have scheme, host and port in common: the only place where credentials and cookies may go. */
export const sameOrigin = (one: URL, other: URL): boolean => one.origin === other.origin;

/** Whether two hosts lie in one domain (its last two labels): a registry's own token server. Addresses are in none. */
export function sameSite(one: URL, other: URL): boolean {
  if (one.hostname === other.hostname) return true;
  const [a, b] = [one, other].map((url) => (isIP(bareHost(url)) ? '' : bareHost(url).split('.').slice(-2).join('.')));
  return a !== '' && a!.includes('.') && a === b;
}

/**
 * Why an address that a registry named (Location, redirect, token realm) must not be followed; undefined when it may. A
 * registry, or anyone who can change its answers, could else have us send image bytes or credentials in the clear, or
 * make requests in our name to services that only this machine can reach.
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

/** Query values that are of use in a log and hold no secret. All others may be signatures, states or tokens. */
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
  // The origin of `file:` and of unknown schemes is opaque.
  const origin = url.origin === 'null' ? `${url.protocol}//${url.host}` : url.origin;
  const text = `${origin}${url.pathname}${query.length > 0 ? `?${query.join('&')}` : ''}`;
  return text.replace(/[\x00-\x20\x7f-\x9f\u2028\u2029]+/g, '…');
}
