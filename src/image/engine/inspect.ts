/** Asking an engine for an image by name or ID. */
import { messageOf } from '../error.ts';
import { type Digest, isDigest } from '../oci.ts';
import { type Answer, type CommandOptions, type EngineName, findTool, firstWords, run } from './command.ts';

/** An image as its engine knows it: what `image inspect` said, and on demand what `info` says. */
export interface EngineImage {
  readonly engine: EngineName;
  /** The tool's path, for further commands. */
  readonly tool: string;
  /** As the engine was asked. */
  readonly name: string;
  readonly imageId: Digest;
  readonly diffIds: readonly Digest[];
  /** The manifest or index that the engine keeps and pushes byte for byte: Docker with the containerd image store. */
  readonly root?: Digest;
  /** The one object of `image inspect`. */
  readonly inspect: Readonly<Record<string, unknown>>;
  /** The object of `docker info` or `podman info`, asked for once. Throws ImageError. */
  info(): Promise<Readonly<Record<string, unknown>>>;
  readonly env: NodeJS.ProcessEnv;
}

/** Why an engine gave no image: in its own words, and whether it answered at all. */
export interface NoImage {
  readonly engine: EngineName;
  readonly why: 'not installed' | 'no such image' | 'failed';
  readonly words: string;
}

const NO_SUCH_IMAGE = /no such (image|object)|image not known|unable to find|not found/i;

/** Asks one engine. Only the signal's abort is thrown; everything else that goes wrong is the answer. */
export async function inspectImage(
  engine: EngineName,
  name: string,
  options: CommandOptions,
): Promise<EngineImage | NoImage> {
  const tool = await findTool(engine, options.env);
  if (!tool) return { engine, why: 'not installed', words: `${engine} is not installed` };
  try {
    const answer = await run(tool, ['image', 'inspect', name], options);
    if (answer.code !== 0) return refusal(engine, answer);
    return read(engine, tool, name, answer.stdout, options);
  } catch (error) {
    options.signal.throwIfAborted();
    return { engine, why: 'failed', words: messageOf(error) };
  }
}

export const isFound = (answer: EngineImage | NoImage): answer is EngineImage => 'imageId' in answer;

function refusal(engine: EngineName, { code, stderr }: Answer): NoImage {
  const words = firstWords(stderr) || `${engine} image inspect ended with exit code ${code}`;
  // A daemon that is not reachable may say "not found" of its socket.
  const unreachable = /cannot connect|failed to connect|dial |connection refused/i.test(stderr);
  return { engine, why: !unreachable && NO_SUCH_IMAGE.test(stderr) ? 'no such image' : 'failed', words };
}

function read(
  engine: EngineName,
  tool: string,
  name: string,
  stdout: string,
  options: CommandOptions,
): EngineImage | NoImage {
  const inspect = (JSON.parse(stdout) as Record<string, unknown>[])[0] ?? {};
  const imageId = withPrefix(inspect.Id);
  const layers = (inspect.RootFS as { Layers?: unknown[] } | undefined)?.Layers ?? [];
  if (!isDigest(imageId) || !layers.every(isDigest)) {
    return { engine, why: 'failed', words: `${engine} image inspect ${name} gave no sha256 Id and layers` };
  }
  const root = rootOf(inspect, imageId);
  let info: Promise<Record<string, unknown>> | undefined;
  return {
    engine,
    tool,
    name,
    imageId,
    diffIds: layers,
    ...(root ? { root } : {}),
    inspect,
    info: () => (info ??= askInfo(tool, options)),
    env: options.env,
  };
}

/** Podman shows IDs without their algorithm. */
const withPrefix = (id: unknown): unknown =>
  typeof id === 'string' && /^[0-9a-f]{64}$/.test(id) ? `sha256:${id}` : id;

/**
 * The containerd image store tells itself by `Descriptor` (Docker 28), and before that by a repository digest that is
 * the image's own ID, which a classic store can't have: there one is the config's digest and the other a manifest's.
 */
function rootOf(inspect: Record<string, unknown>, imageId: Digest): Digest | undefined {
  const described = (inspect.Descriptor as { digest?: unknown } | null | undefined)?.digest;
  if (isDigest(described)) return described;
  const names = Array.isArray(inspect.RepoDigests) ? inspect.RepoDigests : [];
  return names.some((name) => typeof name === 'string' && name.endsWith(`@${imageId}`)) ? imageId : undefined;
}

async function askInfo(tool: string, options: CommandOptions): Promise<Record<string, unknown>> {
  const { stdout, stderr, code } = await run(tool, ['info', '--format', '{{json .}}'], options);
  if (code !== 0) throw new Error(`${tool} info ended with exit code ${code}: ${firstWords(stderr)}`);
  return JSON.parse(stdout) as Record<string, unknown>;
}
