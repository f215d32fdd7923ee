/** The proxies that the environment names, as curl and Go's clients (docker, podman, skopeo) read it. */

import { BlockList, isIP } from 'node:net';
import { isLoopback } from './url-policy.ts';

/** One proxy, ready for undici. */
export interface ProxyServer {
  /** `scheme://host:port`, without credentials: may be shown. */
  readonly address: string;
  readonly username: string;
  readonly password: string;
  /** The password in every form in which it is written or sent. */
  readonly secrets: readonly string[];
}

/**
 * The variables of an environment. They are read when a URL needs them: one that no request needs may hold anything.
 */
export class Proxies {
  readonly #env: NodeJS.ProcessEnv;
  readonly #read = new Map<string, ProxyServer>();

  constructor(env: NodeJS.ProcessEnv) {
    this.#env = env;
  }

  /**
   * The proxy for a URL; undefined when it is reached directly. HTTP_PROXY is for plain HTTP alone, and this machine is
   * never behind a proxy (golang.org/x/net/http/httpproxy). Throws Error, naming the variable, for an address that
   * can't be read.
   */
  for(url: URL): ProxyServer | undefined {
    const names = url.protocol === 'https:' ? ['https_proxy', 'HTTPS_PROXY'] : ['http_proxy', 'HTTP_PROXY'];
    const name = names.find((each) => this.#env[each]);
    if (name === undefined || isLoopback(url)) return undefined;
    if (isExcepted(url, this.#env.no_proxy || this.#env.NO_PROXY || '')) return undefined;
    const known = this.#read.get(name) ?? readProxy(name, this.#env[name]!);
    this.#read.set(name, known);
    return known;
  }
}

/** undici knows `socks5`; that the proxy resolves names (`socks5h`) is what it does anyway. */
const SCHEMES: Readonly<Record<string, string>> = {
  'http:': 'http:',
  'https:': 'https:',
  'socks5:': 'socks5:',
  'socks5h:': 'socks5:',
  'socks:': 'socks5:',
};

/** `proxy:3128` means `http://proxy:3128`. */
function readProxy(name: string, value: string): ProxyServer {
  const text = value.trim().includes('://') ? value.trim() : `http://${value.trim()}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const scheme = SCHEMES[url?.protocol ?? ''];
  if (
    url === undefined ||
    scheme === undefined ||
    url.host === '' ||
    !/^\/?$/.test(url.pathname) ||
    url.search ||
    url.hash
  )
    throw new Error(
      `the environment variable ${name} holds no address of a proxy like http://proxy.example.com:3128 ` +
        '(special characters in a password are written as %23 for #, %2F for /, %3F for ?, %40 for @)',
    );
  const username = decoded(url.username);
  const password = decoded(url.password);
  const basic = Buffer.from(`${username}:${password}`).toString('base64');
  const secrets = password === '' ? [] : [...new Set([password, url.password, basic])];
  return { address: `${scheme}//${url.host}`, username, password, secrets };
}

/** A password with a bare `%` in it is taken as it is, as curl does. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * Whether NO_PROXY names a URL's host. Its entries, separated by commas or spaces: `*`; a name, which stands for its
 * subdomains too; `.name` and `*.name` for subdomains only; an address; a range (10.0.0.0/8, fd00::/8); each but the
 * ranges perhaps with a port.
 */
function isExcepted(url: URL, noProxy: string): boolean {
  const host = url.hostname
    .toLowerCase()
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '');
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  return noProxy
    .toLowerCase()
    .split(/[\s,]+/)
    .some((entry) => entry !== '' && (entry === '*' || matches(entry, host, port)));
}

function matches(entry: string, host: string, port: string): boolean {
  if (entry.includes('/')) return inRange(entry, host);
  const [, bracketed, bare, ownPort] = /^(?:\[([^\]]*)\]|([^:]*|.*:.*:.*?))(?::(\d+))?$/.exec(entry) ?? [];
  const name = isIP(entry) === 6 ? entry : (bracketed ?? bare ?? '').replace(/\.$/, '');
  if (name === '' || (isIP(entry) !== 6 && ownPort !== undefined && ownPort !== port)) return false;
  if (isIP(host) !== 0 || isIP(name) !== 0) return sameAddress(name, host);
  if (/^\*?\./.test(name)) return host.endsWith(name.replace('*', ''));
  return host === name || host.endsWith(`.${name}`);
}

const family = (address: string): 'ipv4' | 'ipv6' => (isIP(address) === 6 ? 'ipv6' : 'ipv4');

/** IPv6 has many ways to write an address. */
function sameAddress(one: string, other: string): boolean {
  if (isIP(one) === 0 || isIP(other) === 0) return false;
  const list = new BlockList();
  list.addAddress(one, family(one));
  return list.check(other, family(other));
}

function inRange(range: string, host: string): boolean {
  const [network = '', bits = ''] = range.split('/');
  const address = network.replace(/^\[(.*)\]$/, '$1');
  const longest = isIP(address) === 6 ? 128 : 32;
  if (isIP(address) === 0 || isIP(host) === 0 || !/^\d{1,3}$/.test(bits) || Number(bits) > longest) return false;
  const list = new BlockList();
  list.addSubnet(address, Number(bits), family(address));
  return list.check(host, family(host));
}
