/** Who we are to a registry: the inputs, else what `docker login` and `podman login` left behind, else anonymous. */

import { dirname, join } from 'node:path';
import { dockerConfigFile, podmanAuthFiles } from '../../common/platform.ts';
import { apiHost } from '../../oci/reference.ts';
import { candidateKeys, findInConfig, parseConfig, readConfigFile } from './config-file.ts';

/** At most one way to prove it is set: a password, an identity token or a ready bearer token. */
export interface Credentials {
  /** Where they came from, for messages: "the inputs username and password", "/home/me/.docker/config.json". */
  readonly source: string;
  readonly username?: string;
  readonly password?: string;
  /** An OAuth refresh token: exchanged for access tokens, never shown to the registry itself. */
  readonly identityToken?: string;
  /** A bearer token that is sent to the registry as it is. */
  readonly registryToken?: string;
}

export interface CredentialsQuery {
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

export interface FoundCredentials {
  /** Undefined: anonymous. */
  readonly credentials: Credentials | undefined;
  /** Sources that are there and could not be used: for the message when the registry then refuses the push. */
  readonly problems: readonly string[];
}

/** Credentials that exist and can't be read: a broken file, a helper program that fails. The message names it. */
export class CredentialsError extends Error {
  override readonly name = 'CredentialsError';
  readonly remedy: string;

  constructor(message: string, remedy: string, cause?: unknown) {
    super(message, { cause });
    this.remedy = remedy;
  }
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
export function scopedConfigFiles(registry: string, repositories: readonly string[], env: NodeJS.ProcessEnv): string[] {
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

/**
 * The name that a password has when it is an identity token.
 * https://github.com/docker/docker-credential-helpers#development
 */
export const TOKEN_USERNAME = '<token>';

/** The value of an `Authorization: Basic` header (RFC 7617), without the scheme. */
export const basicString = (username: string, password: string): string =>
  Buffer.from(`${username}:${password}`, 'utf8').toString('base64');

/** Username and secret as every store keeps them; the username `<token>` marks an identity token. */
export const fromPair = (source: string, username: string, secret: string): Credentials =>
  username === TOKEN_USERNAME ? { source, identityToken: secret } : { source, username, password: secret };
