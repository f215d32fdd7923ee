/**
 * Asking Docker's engine over its socket, as its command does. Starting the command takes 50 ms of the processor, twice in a push
 * that is over in 200. Whatever is unusual is left to the command: nothing is told here that it would not tell, and no error.
 */
import { open, readFile } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { untilAborted } from './abort.ts';

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

/** A question that is on its way, and what comes back. */
interface Question {
  /** Settles when it was sent, or can't be. */
  readonly sent: Promise<unknown>;
  readonly answer: Promise<string>;
}

/** Questions that were asked before the rest of the program was there to read the answers, each for one reader. */
const early = new Map<string, Question>();

const keyOf = (socket: string, path: string): string => `${socket} ${path}`;

/** Asks what `askSocket` will soon be asked. Resolves when the question is on its way; never rejects. */
export async function askEarly(socket: string, path: string): Promise<void> {
  const question = ask(socket, path);
  early.set(keyOf(socket, path), question);
  question.answer.catch(() => {});
  await question.sent;
}

/** The JSON object that the engine answers; undefined for any other answer, and when there is none. Throws the signal's reason. */
export async function askSocket(
  socket: string,
  path: string,
  signal: AbortSignal,
): Promise<Record<string, unknown> | undefined> {
  signal.throwIfAborted();
  try {
    const asked = early.get(keyOf(socket, path)) ?? ask(socket, path);
    early.delete(keyOf(socket, path));
    const answer: unknown = JSON.parse(await untilAborted(asked.answer, signal));
    return typeof answer === 'object' && answer !== null ? (answer as Record<string, unknown>) : undefined;
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}

/** The path of what `docker info` tells. */
export const INFO_PATH = '/info';

/** The path of an image in the API; undefined for a name that would be another path. */
export const imagePath = (name: string): string | undefined =>
  /^[\w.:@/-]+$/.test(name) && !/(^|\/)\.*(\/|$)/.test(name) ? `/images/${name}/json` : undefined;

function ask(socketPath: string, path: string): Question {
  const asked = request({ socketPath, path, headers: { host: 'docker' }, agent: false });
  const answer = new Promise<string>((resolve, reject) => {
    asked.once('error', reject);
    asked.once('response', (response) => read(response).then(resolve, reject));
  });
  const sent = new Promise((resolve) => asked.once('finish', resolve).once('close', resolve));
  asked.end();
  return { sent, answer };
}

/** The text of an answer by Docker. Podman has an API like this one, whose answers differ from its command's. */
async function read(response: IncomingMessage): Promise<string> {
  const { server } = response.headers;
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response) {
    bytes += chunk.length;
    chunks.push(chunk);
    if (bytes > MAX_BYTES) throw new Error('the answer is too large');
  }
  if (response.statusCode === 200 && String(server).startsWith('Docker/'))
    return Buffer.concat(chunks).toString('utf8');
  throw new Error(`${response.statusCode} by ${server}`);
}

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
