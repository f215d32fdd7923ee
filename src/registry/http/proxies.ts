/** The proxies that the environment names, as curl and Go's clients read it. */

export interface Proxies {
  /** For https: URLs; empty for none. */
  readonly https: string;
  /** For http: URLs; empty for none. */
  readonly http: string;
  /** Hosts that are reached without one, separated by commas. */
  readonly except: string;
}

/** Throws Error, naming the variable, for a proxy's address that can't be read. */
export const proxiesOf = (env: NodeJS.ProcessEnv): Proxies => ({
  https: addressIn(env, 'https_proxy', 'HTTPS_PROXY'),
  http: addressIn(env, 'http_proxy', 'HTTP_PROXY'),
  except: env.no_proxy ?? env.NO_PROXY ?? '',
});

/** `proxy:3128` means `http://proxy:3128`. */
function addressIn(env: NodeJS.ProcessEnv, ...names: readonly string[]): string {
  const name = names.find((each) => env[each]);
  const value = name === undefined ? '' : env[name]!;
  if (value === '') return '';
  const address = value.includes('://') ? value : `http://${value}`;
  if (isProxy(address)) return address;
  throw new Error(`the environment variable ${name} holds no address of a proxy like http://proxy.example.com:3128`);
}

/** Whether undici would take it: told here and now, and not with the first request that needs the proxy. */
function isProxy(address: string): boolean {
  const { protocol = '', pathname = '', search, hash } = URL.canParse(address) ? new URL(address) : {};
  return /^(https?|socks5?):$/.test(protocol) && /^\/?$/.test(pathname) && !search && !hash;
}

/** The password in a proxy's address, in every form in which it is written or sent. */
export function proxySecrets(address: string): string[] {
  const { username = '', password = '' } = URL.canParse(address) ? new URL(address) : {};
  if (password === '') return [];
  const plain = decodeURIComponent(password);
  return [plain, password, Buffer.from(`${decodeURIComponent(username)}:${plain}`).toString('base64')];
}
