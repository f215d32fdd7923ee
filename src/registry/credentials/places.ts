/** Where credential files lie. */
import { homedir } from 'node:os';
import { join } from 'node:path';

const home = (env: NodeJS.ProcessEnv): string => env.HOME || env.USERPROFILE || homedir();

/** Docker's: https://docs.docker.com/reference/cli/docker/#environment-variables (DOCKER_CONFIG names a folder). */
export const dockerConfigPath = (env: NodeJS.ProcessEnv): string =>
  join(env.DOCKER_CONFIG || join(home(env), '.docker'), 'config.json');

/**
 * Podman's, in its order: https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md. A file that the environment
 * names stands alone.
 */
export function podmanAuthPaths(env: NodeJS.ProcessEnv): string[] {
  if (env.REGISTRY_AUTH_FILE) return [env.REGISTRY_AUTH_FILE];
  const runtime = env.XDG_RUNTIME_DIR
    ? join(env.XDG_RUNTIME_DIR, 'containers')
    : `/run/containers/${process.getuid?.() ?? 0}`;
  const config = env.XDG_CONFIG_HOME || join(home(env), '.config');
  return [join(runtime, 'auth.json'), join(config, 'containers', 'auth.json')];
}
