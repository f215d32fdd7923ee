/**
 * Docker's Engine API over its Unix socket, for what `docker image inspect`, `docker history` and `docker info` print.
 * https://docs.docker.com/reference/api/engine/
 *
 * The `docker` command is the fallback: where its configuration leads elsewhere (a context, TLS, another host), and for
 * every answer but a 200 of Docker itself, so that errors are reported by the command itself.
 */

import { closeSync, readSync } from 'node:fs';
import { get } from 'node:http';
import { openRegularSync, readRegularSync } from '../../common/open-regular.ts';
import { dockerConfigFile, dockerSocket, MAX_CONFIG_FILE_BYTES, socketInHost } from '../../common/platform.ts';

/** An `inspect` has some KiB; `info` of a large machine some tens. Bytes. */
const MAX_BYTES = 8 * 1024 * 1024;

/**
 * Variables that change how the command speaks to the engine.
 * https://docs.docker.com/reference/cli/docker/#environment-variables
 */
const UNSUPPORTED_VARIABLES = ['DOCKER_API_VERSION', 'DOCKER_CUSTOM_HEADERS', 'DOCKER_TLS', 'DOCKER_TLS_VERIFY'];

/** The path of what `docker info` prints. */
export const INFO_PATH = '/info';

/** The paths of what `docker image inspect` and `docker history` print of one image. */
export interface ImagePaths {
  readonly inspect: string;
  readonly history: string;
}

/** The paths of an image in the API; undefined for a name that would lead to another path. */
export const imagePaths = (name: string): ImagePaths | undefined =>
  /^[\w.:@/-]+$/.test(name) && !/(^|\/)\.*(\/|$)/.test(name)
    ? { inspect: `/images/${name}/json`, history: `/images/${name}/history` }
    : undefined;

/**
 * The socket that the `docker` command at the path `tool` would use; undefined where only the command itself can tell.
 */
export function socketOf(tool: string, env: NodeJS.ProcessEnv): string | undefined {
  const host = env.DOCKER_HOST;
  if (UNSUPPORTED_VARIABLES.some((name) => env[name]) || (!host && env.DOCKER_CONTEXT)) return undefined;
  const socket = host ? socketInHost(host) : dockerSocket();
  // A script may ask any engine anywhere.
  if (!socket || isScript(tool)) return undefined;
  const config = configOf(env);
  if (!config || config.HttpHeaders) return undefined;
  const context = host ? '' : (config.currentContext ?? '');
  return context === '' || context === 'default' ? socket : undefined;
}

/**
 * The JSON object or list at a path of the API; undefined when there is no answer, for any status but 200, and when the
 * server is not Docker: Podman has a similar API, whose answers differ from its command's. Throws the signal's reason.
 */
export async function askDocker(
  socket: string,
  path: string,
  signal: AbortSignal,
): Promise<Record<string, unknown> | undefined> {
  signal.throwIfAborted();
  try {
    const answer: unknown = JSON.parse(await bodyOf(socket, path, signal));
    return typeof answer === 'object' && answer !== null ? (answer as Record<string, unknown>) : undefined;
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}

function bodyOf(socketPath: string, path: string, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get({ socketPath, path, signal, agent: false, headers: { host: 'docker' } }, (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      const isDocker = /^Docker\//i.test(String(response.headers.server));
      if (response.statusCode !== 200 || !isDocker) {
        request.destroy(new Error(`${path}: status ${response.statusCode} of ${response.headers.server}`));
        return;
      }
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        chunks.push(chunk);
        if (bytes > MAX_BYTES) request.destroy(new Error(`${path}: the answer is longer than ${MAX_BYTES} bytes`));
      });
      response.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
      response.on('error', reject);
    });
    request.on('error', reject);
  });
}

/** Whether a command is, or may be, a script: the `docker` of the package podman-docker runs Podman. */
export function isScript(tool: string): boolean {
  try {
    const { fd } = openRegularSync(tool);
    const head = Buffer.alloc(2);
    try {
      return readSync(fd, head) < head.length || head.toString('latin1') === '#!';
    } finally {
      closeSync(fd);
    }
  } catch {
    return true;
  }
}

/** What of the command's configuration changes whom it asks. */
interface DockerConfig {
  readonly currentContext?: unknown;
  readonly HttpHeaders?: unknown;
}

/** The command's configuration, empty where there is none; undefined for one that can't be read. */
function configOf(env: NodeJS.ProcessEnv): DockerConfig | undefined {
  try {
    const text = readRegularSync(dockerConfigFile(env), MAX_CONFIG_FILE_BYTES).toString('utf8');
    const config: unknown = JSON.parse(text);
    return typeof config === 'object' && config !== null ? config : undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? {} : undefined;
  }
}
