/** Who we are to a registry: the inputs, else what `docker login` and `podman login` left behind, else nobody. */

import { dockerConfigFile, podmanAuthFiles } from '../../common/platform.ts';
import { candidateKeys, findInConfig, parseConfig, readConfigFile } from './config-file.ts';

export interface CredentialsQuery {
  /** `host[:port]` of an image reference. */
  readonly registry: string;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** The repositories of the push, for Podman's entries that are for a namespace only. */
  readonly repositories?: readonly string[] | undefined;
  /** Called with every secret before it is used. */
  readonly onSecret?: ((secret: string) => void) | undefined;
}

/**
 * The credentials for a registry; undefined for an anonymous push. The first that has any: the inputs, Docker's config file (and
 * DOCKER_AUTH_CONFIG, which stands for one), Podman's auth files. Throws CredentialsError for those that are there and broken.
 */
export async function resolveCredentials(query: CredentialsQuery): Promise<Credentials | undefined> {
  const found = fromInputs(query) ?? (await fromFiles(query));
  for (const secret of secretsOf(found)) query.onSecret?.(secret);
  return found;
}

function fromInputs({ username = '', password = '' }: CredentialsQuery): Credentials | undefined {
  if (username === '' && password === '') return undefined;
  if (username !== '' && password !== '') return fromPair('the inputs username and password', username, password);
  const missing = username === '' ? 'username' : 'password';
  const given = username === '' ? 'password' : 'username';
  throw new CredentialsError(
    `the input ${given} is set without ${missing}`,
    `set ${missing} too, or neither (is the secret empty?)`,
  );
}

async function fromFiles({ registry, repositories, env }: CredentialsQuery): Promise<Credentials | undefined> {
  const keys = candidateKeys(registry, repositories ?? []);
  if (env.DOCKER_AUTH_CONFIG) {
    const found = await findInConfig(
      parseConfig('in the variable DOCKER_AUTH_CONFIG', env.DOCKER_AUTH_CONFIG),
      keys,
      env,
    );
    if (found !== undefined) return found;
  }
  for (const path of [dockerConfigFile(env), ...podmanAuthFiles(env)]) {
    const config = readConfigFile(path);
    const found = config === undefined ? undefined : await findInConfig(config, keys, env);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Everything in credentials that must never be logged, in the forms in which it is sent. */
function secretsOf(credentials: Credentials | undefined): string[] {
  const { username = '', password, identityToken, registryToken } = credentials ?? {};
  const basic = password === undefined ? undefined : basicString(username, password);
  return [password, basic, identityToken, registryToken].filter((secret) => secret !== undefined);
}

/** Who we are to a registry. */

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

/** Credentials that exist and can't be read: a broken file, a helper program that fails. The message names it. */
export class CredentialsError extends Error {
  override readonly name = 'CredentialsError';
  readonly remedy: string;

  constructor(message: string, remedy: string, cause?: unknown) {
    super(message, { cause });
    this.remedy = remedy;
  }
}

/** The name that a password has when it is an identity token. https://github.com/docker/docker-credential-helpers#development */
export const TOKEN_USERNAME = '<token>';

/** The value of an `Authorization: Basic` header (RFC 7617), without the scheme. */
export const basicString = (username: string, password: string): string =>
  Buffer.from(`${username}:${password}`, 'utf8').toString('base64');

/** Username and secret as every store keeps them; the username `<token>` marks an identity token. */
export const fromPair = (source: string, username: string, secret: string): Credentials =>
  username === TOKEN_USERNAME ? { source, identityToken: secret } : { source, username, password: secret };
