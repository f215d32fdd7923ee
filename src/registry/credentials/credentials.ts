/** Who we are to a registry: the inputs, else what `docker login` and `podman login` left behind, else nobody. */
import { findInConfig, parseConfig, readConfigFile } from './config-file.ts';
import { candidateKeys } from './hosts.ts';
import { dockerConfigPath, podmanAuthPaths } from './places.ts';
import { basicString, type Credentials, CredentialsError, fromPair } from './types.ts';

export { type Credentials, CredentialsError } from './types.ts';

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
  for (const path of [dockerConfigPath(env), ...podmanAuthPaths(env)]) {
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
