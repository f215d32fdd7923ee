/**
 * Asking Docker's engine over its socket, as its command does. Starting the command takes 50 ms of the processor, twice in a push
 * that is over in 200. Whatever is unusual is left to the command: nothing is told here that it would not tell, and no error.
 */
import { open, readFile } from 'node:fs/promises';
import { request } from 'node:http';
import { homedir } from 'node:os';
import { join } from 'node:path';

const DEFAULT_SOCKET = '/var/run/docker.sock';

/** An `inspect` has some KiB; `info` of a large machine some tens. */
const MAX_BYTES = 8 * 1024 * 1024;

/** Variables that change how the command speaks to the engine. https://docs.docker.com/reference/cli/docker/#environment-variables */
const UNUSUAL = ['DOCKER_API_VERSION', 'DOCKER_CUSTOM_HEADERS', 'DOCKER_TLS', 'DOCKER_TLS_VERIFY'];

/** The socket that this command would ask; undefined where only the command knows. `tool` is its path. */
export async function socketOf(tool: string, env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const host = env.DOCKER_HOST;
  if (UNUSUAL.some((name) => env[name]) || (!host && env.DOCKER_CONTEXT)) return undefined;
  const socket = host ? /^unix:\/\/(\/.*)$/.exec(host)?.[1] : DEFAULT_SOCKET;
  if (!socket || (await isScript(tool))) return undefined;
  const config = await configOf(env);
  if (!config || config.HttpHeaders) return undefined;
  const context = host ? '' : (config.currentContext ?? '');
  return context === '' || context === 'default' ? socket : undefined;
}

/** The JSON object that the engine answers; undefined for any other answer, and when there is none. Throws the signal's reason. */
export async function askSocket(
  socketPath: string,
  path: string,
  signal: AbortSignal,
): Promise<Record<string, unknown> | undefined> {
  signal.throwIfAborted();
  try {
    const answer: unknown = JSON.parse(await get(socketPath, path, signal));
    return typeof answer === 'object' && answer !== null ? (answer as Record<string, unknown>) : undefined;
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}

/** The path of an image in the API; undefined for a name that would be another path. */
export const imagePath = (name: string): string | undefined =>
  /^[\w.:@/-]+$/.test(name) && !/(^|\/)\.*(\/|$)/.test(name) ? `/images/${name}/json` : undefined;

const get = (socketPath: string, path: string, signal: AbortSignal): Promise<string> =>
  new Promise((resolve, reject) => {
    const headers = { host: 'docker' };
    const asked = request({ socketPath, path, headers, agent: false, signal }, (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        chunks.push(chunk);
        if (bytes > MAX_BYTES) response.destroy(new Error('the answer is too large'));
      });
      response.once('error', reject);
      response.once('close', () => reject(new Error('the answer broke off')));
      response.once('end', () => {
        // Podman answers here too, in its own way.
        const isDocker = String(response.headers.server).startsWith('Docker/');
        if (response.statusCode === 200 && isDocker) resolve(Buffer.concat(chunks).toString('utf8'));
        else reject(new Error(`${response.statusCode} by ${response.headers.server}`));
      });
    });
    asked.once('error', reject);
    asked.end();
  });

/** Whether a command is a script: that may ask any engine anywhere (podman-docker's is one). */
async function isScript(tool: string): Promise<boolean> {
  const file = await open(tool);
  try {
    const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(2) });
    return bytesRead < 2 || buffer.toString('latin1') === '#!';
  } finally {
    await file.close();
  }
}

interface DockerConfig {
  readonly currentContext?: unknown;
  readonly HttpHeaders?: unknown;
}

/** The command's configuration, empty where there is none; undefined for one that can't be read. */
async function configOf(env: NodeJS.ProcessEnv): Promise<DockerConfig | undefined> {
  const folder = env.DOCKER_CONFIG || join(env.HOME || homedir(), '.docker');
  try {
    const config: unknown = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'));
    return typeof config === 'object' && config !== null ? config : undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? {} : undefined;
  }
}
