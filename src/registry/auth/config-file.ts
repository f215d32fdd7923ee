/** Credential files: Docker's config.json and Podman's auth.json, which have one form. */

import { existsSync, readFileSync } from 'node:fs';
import { canonicalHost, DOCKER_HUB, DOCKER_HUB_KEY } from '../../oci/docker-hub.ts';
import { type Credentials, CredentialsError, fromPair } from './credentials.ts';
import { askHelper } from './helper.ts';

/** https://github.com/docker/cli/blob/master/cli/config/types/authconfig.go */
interface AuthEntry {
  readonly auth?: string;
  readonly username?: string;
  readonly password?: string;
  readonly identitytoken?: string;
  readonly registrytoken?: string;
}

/** The part of a config file that is about credentials. */
export interface ConfigFile {
  /** Where it is, for messages. */
  readonly path: string;
  readonly auths?: Readonly<Record<string, AuthEntry>>;
  readonly credsStore?: string;
  readonly credHelpers?: Readonly<Record<string, string>>;
}

/**
 * Reads a config file; undefined when there is none. Throws CredentialsError, naming the file, when it can't be read.
 * At once: nothing else can be done before, and to have another thread read a small file takes longer than to read it.
 */
export function readConfigFile(path: string): ConfigFile | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    // A root's Podman closes /run/containers to everybody else, who has no credentials there then.
    if (code === 'EACCES' && !existsSync(path)) return undefined;
    throw fileError(path, `can not be read (${code})`, error);
  }
  return text.trim() === '' ? undefined : parseConfig(path, text);
}

/** The text of a config file. Throws CredentialsError with `path` in it, and nothing of the text. */
export function parseConfig(path: string, text: string): ConfigFile {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    // The parser's message would quote the text, in which there are secrets.
    throw fileError(path, 'is not valid JSON');
  }
  if (!isRecord(parsed)) throw fileError(path, 'is not a JSON object');
  const { auths, credsStore, credHelpers } = parsed;
  if (!isRecord(auths ?? {}) || !Object.values(auths ?? {}).every(isRecord))
    throw fileError(path, 'has an "auths" that is not as Docker writes it');
  if (!isRecord(credHelpers ?? {}) || !Object.values(credHelpers ?? {}).every((name) => typeof name === 'string')) {
    throw fileError(path, 'has a "credHelpers" that is not as Docker writes it');
  }
  if (typeof (credsStore ?? '') !== 'string') throw fileError(path, 'has a "credsStore" that is not a name');
  return { ...(parsed as Omit<ConfigFile, 'path'>), path };
}

/**
 * The credentials that a config file has for the first of these keys, in Docker's order: the helper of the host, the file's store,
 * its own entries. Throws CredentialsError for an entry or a helper that is broken.
 */
export async function findInConfig(
  config: ConfigFile,
  keys: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<Credentials | undefined> {
  const host = keys.at(-1)!;
  const helper = entryFor(config.credHelpers, host)?.[1] ?? config.credsStore ?? '';
  if (helper !== '') {
    const server = host === DOCKER_HUB ? DOCKER_HUB_KEY : host;
    const found = await askHelper({ name: helper, server, env });
    if (found !== undefined) return found;
  }
  for (const key of keys) {
    const entry = entryFor(config.auths, key);
    const found = entry === undefined ? undefined : readEntry(config.path, ...entry);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** An exact match first, then one that means the same (an old client's URL, another name of Docker Hub). */
function entryFor<T>(entries: Readonly<Record<string, T>> | undefined, key: string): [string, T] | undefined {
  const all = Object.entries(entries ?? {});
  return all.find(([name]) => name === key) ?? all.find(([name]) => canonicalKey(name) === key);
}

function readEntry(path: string, key: string, entry: AuthEntry): Credentials | undefined {
  if (entry.identitytoken) return { source: path, identityToken: entry.identitytoken };
  if (entry.registrytoken) return { source: path, registryToken: entry.registrytoken };
  if (entry.auth) return fromPair(path, ...readPair(path, key, entry.auth));
  if (entry.username !== undefined && entry.password) return fromPair(path, entry.username, entry.password);
  // docker login leaves an empty entry for what a helper keeps.
  return undefined;
}

/** `base64(user:password)`; old clients pad the password with zero bytes. */
function readPair(path: string, key: string, auth: string): [username: string, secret: string] {
  const text =
    typeof auth === 'string' && /^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(auth)
      ? Buffer.from(auth, 'base64').toString('utf8')
      : '';
  const colon = text.indexOf(':');
  if (colon <= 0) throw fileError(path, `has an "auth" for ${key} that is not base64 of user:password`);
  return [text.slice(0, colon), text.slice(colon + 1).replace(/\0+$/, '')];
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const fileError = (path: string, what: string, cause?: unknown): CredentialsError =>
  new CredentialsError(`credential file ${path} ${what}`, 'repair it, or set username and password', cause);

/** The keys of credential files: which registry, and perhaps which part of it, an entry is for. */

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
