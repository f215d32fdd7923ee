/** Asking an engine for an image by name or ID. */

import { ImageError, messageOf } from '../../common/error.ts';
import { findProgram } from '../../common/platform.ts';
import { type Digest, isDigest } from '../../oci/types.ts';
import { type CommandOptions, type EngineName, firstErrorLine, type NoImage, refusalOf, run } from './command.ts';
import { askDocker, type ImagePaths, INFO_PATH, imagePaths, socketOf } from './docker-api.ts';

/** One object of an engine's JSON: of `inspect`, `info`. */
export type Inspect = Readonly<Record<string, unknown>>;

/** An image as its engine knows it, and on demand what `info` says. */
export interface EngineImage {
  readonly engine: EngineName;
  /** The tool's path, for further commands. */
  readonly tool: string;
  /** As the engine was asked. */
  readonly name: string;
  readonly imageId: Digest;
  /** Absent where they were not asked for, which is only where there is a root. */
  readonly diffIds?: readonly Digest[];
  /** The manifest or index that the engine keeps and pushes byte for byte: Docker with the containerd image store. */
  readonly root?: Digest;
  /** The object of `docker info` or `podman info`, asked for once. Throws ImageError. */
  info(): Promise<Inspect>;
  /** The diffIDs, asked for now if they were not before. Throws ImageError. */
  layers(): Promise<readonly Digest[]>;
  readonly env: NodeJS.ProcessEnv;
}

interface InspectOptions extends CommandOptions {
  /** The image's root is enough where the engine keeps it in containerd: all else is read from its store. */
  readonly rootSuffices?: boolean;
  /** Milliseconds that the engine has for its answer; ANSWER_MS without it. */
  readonly answerMs?: number;
}

/**
 * An engine on a busy disk may take a minute. One that accepts connections and hangs never answers: that is what a
 * daemon with a locked store does.
 */
export const ANSWER_MS = 120_000;

/** Asks one engine for an image. Only the signal's abort is thrown; everything else that goes wrong is the answer. */
export async function inspectImage(
  engine: EngineName,
  name: string,
  options: InspectOptions,
): Promise<EngineImage | NoImage> {
  const tool = findProgram(engine, options.env);
  if (!tool) return { engine, why: 'not installed', message: `${engine} is not installed` };
  const { answerMs = ANSWER_MS } = options;
  const limit = AbortSignal.timeout(answerMs);
  const limited = { ...options, signal: AbortSignal.any([options.signal, limit]) };
  try {
    const asked = { engine, tool, name, options };
    const overSocket = engine === 'docker' ? await inspectOverSocket(asked, limited.signal) : undefined;
    if (overSocket) return overSocket;
    const answer = await run(tool, ['image', 'inspect', name], limited);
    if (answer.code !== 0) return refusalOf(engine, answer);
    const inspect = (JSON.parse(answer.stdout) as Inspect[])[0] ?? {};
    return imageFrom(asked, inspect) ?? unreadable(asked);
  } catch (error) {
    options.signal.throwIfAborted();
    if (limit.aborted) return { engine, why: 'unreachable', message: `no answer within ${answerMs / 1000} s` };
    return { engine, why: 'failed', message: messageOf(error) };
  }
}

export const isFound = (answer: EngineImage | NoImage): answer is EngineImage => 'imageId' in answer;

interface Asked {
  readonly engine: EngineName;
  readonly tool: string;
  readonly name: string;
  readonly options: InspectOptions;
}

/** What the command would report; undefined when the command itself must be run, if only for its error message. */
async function inspectOverSocket(asked: Asked, signal: AbortSignal): Promise<EngineImage | undefined> {
  const paths = imagePaths(asked.name);
  const { env, rootSuffices } = asked.options;
  const socket = paths && socketOf(asked.tool, env);
  if (!socket) return undefined;
  const { root, info } = rootSuffices ? await askForRoot(socket, paths, signal) : {};
  if (root && info) return imageOf(asked, root, info);
  const inspect = await askDocker(socket, paths.inspect, signal);
  return inspect && imageFrom(asked, inspect, async () => info ?? askDocker(socket, INFO_PATH, asked.options.signal));
}

/** An image of which only the root is known yet. */
function imageOf(asked: Asked, root: Digest, info: Inspect): EngineImage {
  const { engine, tool, name, options } = asked;
  const layers = async () => {
    const answer = await inspectImage(engine, root, { env: options.env, signal: options.signal });
    if (isFound(answer)) return answer.layers();
    throw new ImageError('Export', `${name} is no longer in ${engine}: ${answer.message}`);
  };
  return { engine, tool, name, imageId: root, root, info: async () => info, layers, env: options.env };
}

/**
 * An image out of an answer of `inspect`; `ask` may have the answer of `info`. Undefined without a digest and layers.
 */
export function imageFrom(
  { engine, tool, name, options }: Asked,
  inspect: Inspect,
  ask: () => Promise<Inspect | undefined> = async () => undefined,
): EngineImage | undefined {
  const imageId = withPrefix(inspect.Id);
  const layers = (inspect.RootFS as { Layers?: unknown[] } | undefined)?.Layers ?? [];
  if (!isDigest(imageId) || !layers.every(isDigest)) return undefined;
  const root = rootOf(inspect, imageId);
  let info: Promise<Inspect> | undefined;
  return {
    engine,
    tool,
    name,
    imageId,
    diffIds: layers,
    ...(root ? { root } : {}),
    layers: async () => layers,
    info: () => (info ??= ask().then((reported) => reported ?? askInfo(tool, options))),
    env: options.env,
  };
}

const unreadable = ({ engine, name }: Asked): NoImage => {
  const message = `${engine} image inspect ${name} printed no sha256 Id and layers`;
  return { engine, why: 'failed', message };
};

/** Podman shows IDs without their algorithm. */
const withPrefix = (id: unknown): unknown =>
  typeof id === 'string' && /^[0-9a-f]{64}$/.test(id) ? `sha256:${id}` : id;

/**
 * The containerd image store tells itself by `Descriptor` (Docker 28), and before that by a repository digest that is
 * the image's own ID, which a classic store can't have: there one is the config's digest and the other a manifest's.
 */
function rootOf(inspect: Inspect, imageId: Digest): Digest | undefined {
  const described = (inspect.Descriptor as { digest?: unknown } | null | undefined)?.digest;
  if (isDigest(described)) return described;
  const names = Array.isArray(inspect.RepoDigests) ? inspect.RepoDigests : [];
  return names.some((name) => typeof name === 'string' && name.endsWith(`@${imageId}`)) ? imageId : undefined;
}

async function askInfo(tool: string, options: CommandOptions): Promise<Inspect> {
  const { stdout, stderr, code } = await run(tool, ['info', '--format', '{{json .}}'], options);
  if (code !== 0) throw new Error(`${tool} info ended with exit code ${code}: ${firstErrorLine(stderr)}`);
  return JSON.parse(stdout) as Inspect;
}

// The digest of an image's root in Docker's containerd image store, by `docker history`. Manifests, config and layers
// are files named by their digest there, so nothing else is needed. `docker image inspect` reports that digest too
// and adds up the sizes of all snapshots on the way (30 ms against 10 for a small image). The ID in the first row of
// the history is the image's own: https://github.com/moby/moby/blob/v28.5.2/daemon/containerd/image_history.go

/** What the engine reports of an image's root and of itself. */
interface RootAnswer {
  /** The digest of the image's manifest or index; undefined for a classic store and for an image without history. */
  readonly root: Digest | undefined;
  /** What `docker info` reports; undefined where the engine did not answer. */
  readonly info: Readonly<Record<string, unknown>> | undefined;
}

/** Asks for an image's history and for `docker info`. Throws the signal's reason. */
async function askForRoot(socket: string, paths: ImagePaths, signal: AbortSignal): Promise<RootAnswer> {
  const [history, info] = await Promise.all([
    askDocker(socket, paths.history, signal),
    askDocker(socket, INFO_PATH, signal),
  ]);
  const id = (history?.[0] as { Id?: unknown } | null | undefined)?.Id;
  const isRoot = info !== undefined && isContainerdStore(info as DockerInfo) && isDigest(id);
  return { root: isRoot ? id : undefined, info };
}

/** The part of `docker info` that is read here. https://docs.docker.com/reference/api/engine/ (SystemInfo) */
export interface DockerInfo {
  readonly Driver?: string;
  readonly DriverStatus?: readonly (readonly [string, string])[] | null;
  readonly DockerRootDir?: string;
  readonly OperatingSystem?: string;
  readonly Containerd?: { readonly Address?: string } | null;
}

/**
 * Whether the engine keeps its images in containerd (the containerd image store): an image's ID is its root's digest
 * there.
 */
export const isContainerdStore = ({ DriverStatus: status }: DockerInfo): boolean =>
  Array.isArray(status) && new Map(status).get('driver-type') === 'io.containerd.snapshotter.v1';
