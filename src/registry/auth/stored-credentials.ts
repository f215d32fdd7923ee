/**
 * Who we are to a registry: the inputs, else what `docker login` and `podman login` left in Docker's config.json and
 * Podman's auth.json (which have one format), else anonymous.
 */

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readRegularSync } from '../../common/open-regular.ts';
import { dockerConfigFile, MAX_CONFIG_FILE_BYTES, podmanAuthFiles } from '../../common/platform.ts';
import { isFields } from '../../oci/documents.ts';
import { apiHost, canonicalHost, DOCKER_HUB, DOCKER_HUB_KEY } from '../../oci/reference.ts';
import { askHelper, basicString, type Credentials, CredentialsError, fromPair } from './credentials.ts';

interface CredentialsQuery {
  /** `host[:port]` of an image reference. */
  readonly registry: string;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** The repositories of the push, for entries that are for a namespace only. */
  readonly repositories?: readonly string[] | undefined;
  /** Called with every secret before it is used. */
  readonly onSecret?: ((secret: string) => void) | undefined;
}

interface FoundCredentials {
  /** Undefined: anonymous. */
  readonly credentials: Credentials | undefined;
  /** Sources that are there and could not be used: for the message when the registry then refuses the push. */
  readonly problems: readonly string[];
}

/**
 * The credentials for a registry, of the first source that has any: the inputs, DOCKER_AUTH_CONFIG, what
 * docker/login-action with `scope` has written, Docker's config file, Podman's auth files. A source that is broken does
 * not end the search, since the registry may be open or the next source may have them. Throws CredentialsError when
 * only one of the two inputs is set.
 */
export async function resolveCredentials(query: CredentialsQuery): Promise<FoundCredentials> {
  const problems: string[] = [];
  const credentials = fromInputs(query) ?? (await fromFiles(query, (problem) => problems.push(problem)));
  for (const secret of secretsOf(credentials)) query.onSecret?.(secret);
  return { credentials, problems };
}

function fromInputs({ username = '', password = '' }: CredentialsQuery): Credentials | undefined {
  if (username === '' && password === '') return undefined;
  if (username !== '' && password !== '') return fromPair('the inputs username and password', username, password);
  const missing = username === '' ? 'username' : 'password';
  const present = username === '' ? 'password' : 'username';
  throw new CredentialsError(
    `the input ${present} is set without ${missing}`,
    `set ${missing} too, or neither (is the secret empty?)`,
  );
}

async function fromFiles(
  { registry, repositories = [], env }: CredentialsQuery,
  report: (problem: string) => void,
): Promise<Credentials | undefined> {
  const keys = candidateKeys(registry, repositories);
  const inVariable = 'in the variable DOCKER_AUTH_CONFIG';
  const sources = [
    () => (env.DOCKER_AUTH_CONFIG ? parseConfig(inVariable, env.DOCKER_AUTH_CONFIG, report) : undefined),
    ...[...scopedConfigFiles(registry, repositories, env), dockerConfigFile(env), ...podmanAuthFiles(env)].map(
      (path) => () => readConfigFile(path, report),
    ),
  ];
  for (const read of sources) {
    try {
      const config = read();
      const found = config === undefined ? undefined : await findInConfig(config, keys, env, report);
      if (found !== undefined) return found;
    } catch (error) {
      if (!(error instanceof CredentialsError)) throw error;
      report(error.message);
    }
  }
  return undefined;
}

/**
 * The config files that docker/login-action writes with `scope` (a repository, a namespace, `@actions`, or both), most
 * specific first: `<buildx config>/config/<host>/<repository>[@<actions>]/config.json`. Only buildx reads them beside
 * us. The host of Docker Hub is that of its API. https://github.com/docker/login-action (scopeToConfigDir)
 */
function scopedConfigFiles(registry: string, repositories: readonly string[], env: NodeJS.ProcessEnv): string[] {
  const root = join(env.BUILDX_CONFIG || join(dirname(dockerConfigFile(env)), 'buildx'), 'config');
  const host = apiHost(registry);
  const places = candidateKeys(registry, repositories).map((key) => join(host, ...key.split('/').slice(1)));
  // A pushed image needs both actions: a login for `@pull` alone is of no use.
  const actions = ['@pull,push', '@push,pull', '@push', ''];
  return places.flatMap((place) => actions.map((action) => join(root, `${place}${action}`, 'config.json')));
}

/** Everything in credentials that must never be logged, in the forms in which it is sent. */
function secretsOf(credentials: Credentials | undefined): string[] {
  const { username = '', password, identityToken, registryToken } = credentials ?? {};
  const basic = password === undefined ? undefined : basicString(username, password);
  return [password, basic, identityToken, registryToken].filter((secret) => secret !== undefined);
}

/** https://github.com/docker/cli/blob/master/cli/config/types/authconfig.go */
interface AuthEntry {
  readonly auth?: unknown;
  readonly username?: unknown;
  readonly password?: unknown;
  readonly identitytoken?: unknown;
  readonly registrytoken?: unknown;
}

/** The part of a config file that is about credentials. What is null or of another type is left out. */
interface ConfigFile {
  /** Where it is, for messages. */
  readonly path: string;
  readonly auths: Readonly<Record<string, AuthEntry>>;
  readonly credsStore: string;
  readonly credHelpers: Readonly<Record<string, string>>;
}

/**
 * Reads a config file; undefined when there is none. Throws CredentialsError, naming the file, when it can't be read.
 */
function readConfigFile(path: string, report: (problem: string) => void): ConfigFile | undefined {
  let text: string;
  try {
    text = readRegularSync(path, MAX_CONFIG_FILE_BYTES).toString('utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    // A root's Podman closes /run/containers to all other users, who have no credentials there then.
    if (code === 'EACCES' && !existsSync(path)) return undefined;
    throw fileError(path, code === undefined ? `can not be read: ${message}` : `can not be read (${code})`, error);
  }
  return text.trim() === '' ? undefined : parseConfig(path, text, report);
}

/**
 * The text of a config file. What is not as Docker writes it is reported, and left out. Throws CredentialsError, with
 * `path` in it and nothing of the text, when it is no JSON object.
 */
function parseConfig(path: string, text: string, report: (problem: string) => void): ConfigFile {
  let parsed: unknown;
  try {
    // Editors on Windows write a byte order mark.
    parsed = JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch {
    // The parser's message would quote the text, in which there are secrets.
    throw fileError(path, 'is not valid JSON');
  }
  if (!isFields(parsed)) throw fileError(path, 'is not a JSON object');
  const { auths, credsStore, credHelpers } = parsed;
  const wrong = (what: string): void => report(fileError(path, what).message);
  if (!isFields(auths ?? {}) || !Object.values(auths ?? {}).every((entry) => entry === null || isFields(entry)))
    wrong('has an "auths" that is not as Docker writes it');
  if (!isFields(credHelpers ?? {}) || !Object.values(credHelpers ?? {}).every((name) => typeof name === 'string'))
    wrong('has a "credHelpers" that is not as Docker writes it');
  if (typeof (credsStore ?? '') !== 'string') wrong('has a "credsStore" that is not a name');
  return {
    path,
    auths: only(auths, isFields),
    credsStore: typeof credsStore === 'string' ? credsStore : '',
    credHelpers: only(credHelpers, (name) => typeof name === 'string'),
  };
}

/** The entries of a record whose values are of a type. */
const only = <T>(record: unknown, is: (value: unknown) => value is T): Record<string, T> =>
  Object.fromEntries(
    Object.entries(isFields(record) ? record : {}).filter((entry): entry is [string, T] => is(entry[1])),
  );

/**
 * The credentials that a config file has for the first of these keys, in Docker's order: the helper of the host, the
 * file's store, its own entries. An entry or a helper that is broken is reported, and the search goes on.
 */
async function findInConfig(
  config: ConfigFile,
  keys: readonly string[],
  env: NodeJS.ProcessEnv,
  report: (problem: string) => void,
): Promise<Credentials | undefined> {
  const host = keys.at(-1)!;
  const helper = entryFor(config.credHelpers, host)?.[1] ?? config.credsStore;
  if (helper !== '') {
    const server = host === DOCKER_HUB ? DOCKER_HUB_KEY : host;
    const found = await askHelper({ name: helper, server, env }).catch((error: unknown) => {
      if (!(error instanceof CredentialsError)) throw error;
      report(error.message);
    });
    if (found !== undefined) return found;
  }
  for (const key of keys) {
    const entry = entryFor(config.auths, key);
    const found = entry === undefined ? undefined : readEntry(config.path, ...entry, report);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** An exact match first, then one that means the same (an old client's URL, another name of Docker Hub). */
function entryFor<T>(entries: Readonly<Record<string, T>>, key: string): [string, T] | undefined {
  const all = Object.entries(entries);
  return all.find(([name]) => name === key) ?? all.find(([name]) => canonicalKey(name) === key);
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

function readEntry(
  path: string,
  key: string,
  entry: AuthEntry,
  report: (problem: string) => void,
): Credentials | undefined {
  const [identityToken, registryToken] = [textOf(entry.identitytoken), textOf(entry.registrytoken)];
  if (identityToken !== '') return { source: path, identityToken };
  if (registryToken !== '') return { source: path, registryToken };
  if (entry.auth) {
    const pair = readPair(entry.auth);
    if (pair !== undefined) return fromPair(path, ...pair);
    report(fileError(path, `has an "auth" for ${key} that is not base64 of user:password`).message);
  }
  const [username, password] = [textOf(entry.username), textOf(entry.password)];
  // docker login leaves an empty entry for what a helper keeps.
  return username === '' || password === '' ? undefined : fromPair(path, username, password);
}

/** `base64(user:password)`; old clients pad the password with zero bytes. */
function readPair(auth: unknown): [username: string, secret: string] | undefined {
  const text =
    typeof auth === 'string' && /^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(auth)
      ? Buffer.from(auth, 'base64').toString('utf8')
      : '';
  const colon = text.indexOf(':');
  return colon <= 0 ? undefined : [text.slice(0, colon), text.slice(colon + 1).replace(/\0+$/, '')];
}

const fileError = (path: string, what: string, cause?: unknown): CredentialsError =>
  new CredentialsError(`credential file ${path} ${what}`, 'repair it, or set username and password', cause);

// The keys of credential files: which registry, and perhaps which part of it, an entry is for.

/**
 * A key as `host[:port][/namespace…]` in canonical form. Old clients wrote URLs (`https://host/v1/`), Podman writes
 * namespaces. Hosts are compared as they are: `example.com` is neither `example.com.evil.org` nor `my-example.com`.
 */
function canonicalKey(key: string): string {
  const withoutScheme = key.replace(/^https?:\/\//i, '');
  const [host = '', ...path] = withoutScheme.split('/').filter((part, index) => index === 0 || part !== '');
  const isApi = path.length === 1 && /^v[12]$/.test(path[0]!);
  return [canonicalHost(host), ...(isApi ? [] : path)].join('/');
}

/**
 * The keys that may hold credentials for these repositories of a registry, most specific first: `host/team/app`,
 * `host/team`, `host`. With several repositories only what they have in common, since a push asks as one user.
 * https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md
 */
function candidateKeys(registry: string, repositories: readonly string[]): string[] {
  const host = canonicalHost(registry);
  const [first = [], ...others] = repositories.map((repository) => repository.split('/'));
  const common = first.findIndex((part, index) => others.some((other) => other[index] !== part));
  const depth = common < 0 ? first.length : common;
  const namespaces = Array.from({ length: depth }, (_, index) => first.slice(0, depth - index).join('/'));
  return [...namespaces.map((namespace) => `${host}/${namespace}`), host];
}
