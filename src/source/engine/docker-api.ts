/**
 * Asking Docker's engine over its socket, as its command does. Starting the command takes 50 ms of the processor, twice in a push
 * that is over in 200. Whatever is unusual is left to the command: nothing is told here that it would not tell, and no error.
 */

import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { untilAborted } from '../../common/async.ts';
import { dockerConfigFile, dockerSocket, socketInHost } from '../../common/platform.ts';

/** An `inspect` has some KiB; `info` of a large machine some tens. */
const MAX_BYTES = 8 * 1024 * 1024;

/** Variables that change how the command speaks to the engine. https://docs.docker.com/reference/cli/docker/#environment-variables */
const UNUSUAL = ['DOCKER_API_VERSION', 'DOCKER_CUSTOM_HEADERS', 'DOCKER_TLS', 'DOCKER_TLS_VERIFY'];

/** The socket that this command would ask; undefined where only the command knows. `tool` is its path. */
export function socketOf(tool: string, env: NodeJS.ProcessEnv): string | undefined {
  const host = env.DOCKER_HOST;
  if (UNUSUAL.some((name) => env[name]) || (!host && env.DOCKER_CONTEXT)) return undefined;
  const socket = host ? socketInHost(host) : dockerSocket();
  if (!socket || mayBeScript(tool)) return undefined;
  const config = configOf(env);
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
export type EarlyQuestions = Map<string, Question>;

const early: EarlyQuestions = new Map();

const keyOf = (socket: string, path: string): string => `${socket} ${path}`;

/** Asks what `askSocket` will soon be asked. Resolves when the questions are on their way; never rejects. */
export async function askEarly(socket: string, paths: readonly string[]): Promise<EarlyQuestions> {
  const questions = new Map(paths.map((path) => [keyOf(socket, path), ask(socket, path)]));
  for (const { answer } of questions.values()) answer.catch(() => {});
  await Promise.all([...questions.values()].map(({ sent }) => sent));
  return questions;
}

/** Lets `askSocket` find what was asked early. */
export function expectAnswers(questions: EarlyQuestions): void {
  for (const [key, question] of questions) early.set(key, question);
}

/** The JSON object or list that the engine answers; undefined for any other answer, and when there is none. Throws the signal's reason. */
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

/** The paths of what is told of an image: `docker image inspect` and `docker history`. */
export interface ImagePaths {
  readonly inspect: string;
  readonly history: string;
}

/** The paths of an image in the API; undefined for a name that would be another path. */
export const imagePaths = (name: string): ImagePaths | undefined =>
  /^[\w.:@/-]+$/.test(name) && !/(^|\/)\.*(\/|$)/.test(name)
    ? { inspect: `/images/${name}/json`, history: `/images/${name}/history` }
    : undefined;

function ask(socketPath: string, path: string): Question {
  const socket = connect(socketPath);
  const answer = read(socket);
  const sent = new Promise((resolve) => {
    socket.once('close', resolve);
    // HTTP/1.0: one answer, as it is and not in pieces, until the engine hangs up. Node's own client takes 10 ms to load.
    socket.write(`GET ${path} HTTP/1.0\r\nHost: docker\r\n\r\n`, resolve);
  });
  return { sent, answer };
}

/** The text of an answer by Docker. Podman has an API like this one, whose answers differ from its command's. */
async function read(socket: Socket): Promise<string> {
  const [head = '', body] = splitOnce((await bytesOf(socket)).toString('utf8'), '\r\n\r\n');
  // One that broke off is no whole JSON, which its reader sees.
  if (body !== undefined && /^HTTP\/1\.\d 200 /.test(head) && /^server: *Docker\//im.test(head)) return body;
  throw new Error(head.split('\r\n', 1)[0]);
}

/** All that comes until the other side hangs up. By events: the first loop over a stream costs a millisecond. */
function bytesOf(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  return new Promise((resolve, reject) => {
    socket.on('data', (chunk) => {
      bytes += chunk.length;
      chunks.push(chunk);
      if (bytes > MAX_BYTES) socket.destroy(new Error('the answer is too large'));
    });
    socket.on('end', () => resolve(Buffer.concat(chunks)));
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('the connection was closed')));
  });
}

function splitOnce(text: string, by: string): [string, string?] {
  const at = text.indexOf(by);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + by.length)];
}

/** Whether a command is, or may be, a script: that may ask any engine anywhere (podman-docker's is one). */
function mayBeScript(tool: string): boolean {
  let file: number | undefined;
  try {
    file = openSync(tool, 'r');
    const head = Buffer.alloc(2);
    return readSync(file, head) < 2 || head.toString('latin1') === '#!';
  } catch {
    return true;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

interface DockerConfig {
  readonly currentContext?: unknown;
  readonly HttpHeaders?: unknown;
}

/** The command's configuration, empty where there is none; undefined for one that can't be read. */
function configOf(env: NodeJS.ProcessEnv): DockerConfig | undefined {
  try {
    const config: unknown = JSON.parse(readFileSync(dockerConfigFile(env), 'utf8'));
    return typeof config === 'object' && config !== null ? config : undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? {} : undefined;
  }
}
