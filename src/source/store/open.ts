/**
 * An engine's own store as a source. An obstacle is no failure: `save` has the same image, only slower.
 * All that is read here is verified against the digest that was asked for.
 */

import type { Readable } from 'node:stream';
import { blockStream } from '../../blob/blocks.ts';
import { messageOf } from '../../common/error.ts';
import { readRegularSync } from '../../common/open-regular.ts';
import type { Digest } from '../../oci/types.ts';
import { type DockerInfo, isContainerdStore } from '../engine/inspect.ts';
import type { StoreSource } from '../source.ts';
import { LocalFiles, type StoreFiles } from './files/files.ts';
import { StoreError } from './files/folder.ts';
import { startHelper } from './helper/client.ts';
import { openContentStore, openOverlay2, openPodmanStore } from './images.ts';

interface StoreOptions {
  /** `auto`: the store where it can be read; `store`: that or an error. `save` does not open one. */
  readonly export: 'auto' | 'store';
  readonly signal: AbortSignal;
  /** A line for the debug log: each obstacle. */
  readonly debug: (line: string) => void;
  /** A line for the log: that a helper reads, and how to turn it off. */
  readonly notice: (line: string) => void;
  /** The environment of the action: RUNNER_ENVIRONMENT tells a runner of GitHub's own. */
  readonly env: NodeJS.ProcessEnv;
}

/**
 * Opens the engine's store for one image. Undefined, with a debug line for each obstacle, when it can't be read; with
 * `export: store` a StoreError that names the obstacle and the remedy.
 */
export async function openEngineStore(facts: EngineFacts, options: StoreOptions): Promise<StoreSource | undefined> {
  try {
    const location = await locate(facts);
    return await openIn(filesOf(location, options), facts, location, options);
  } catch (cause) {
    if (options.signal.aborted) throw options.signal.reason;
    const reason = messageOf(cause);
    if (options.export === 'store') throw refusal(reason, cause);
    options.debug(`The engine's own store is not read: ${reason}`);
    return undefined;
  }
}

/**
 * GitHub's own runners come with passwordless sudo. Anywhere else it is used only where the user asked for the store.
 */
const mayUseSudo = ({ export: wanted, env }: StoreOptions): boolean =>
  process.getuid?.() !== 0 && (wanted === 'store' || env.RUNNER_ENVIRONMENT === 'github-hosted');

const isDenied = (error: unknown): error is StoreError => error instanceof StoreError && error.denied;

/**
 * The files of a store: read by this process, and where it may ask for that, by the helper from the first refusal on.
 */
function filesOf({ roots }: StoreLocation, options: StoreOptions): StoreFiles {
  const own = new LocalFiles(roots);
  if (!mayUseSudo(options)) return own;
  return new EscalatingFiles(own, async ({ message }) => {
    options.debug(`The engine's store needs more rights: ${message}`);
    const helper = await startHelper(roots, options);
    options.notice(
      `A read-only helper under sudo reads the engine's files below ${roots.join(', ')}; turn this off with \`export: save\``,
    );
    return helper;
  });
}

/** Opens the first of the places that has the image; the files are closed when none has. */
async function openIn(
  files: StoreFiles,
  facts: EngineFacts,
  location: StoreLocation,
  options: StoreOptions,
): Promise<StoreSource> {
  const failures: unknown[] = [];
  for (const root of location.roots) {
    try {
      return await openAt(files, root, facts, location.kind);
    } catch (error) {
      failures.push(error);
      if (location.roots.length > 1) options.debug(`Not at ${root}: ${(error as Error).message}`);
    }
  }
  await files.close();
  throw failures.find(isDenied) ?? failures[0];
}

async function openAt(
  files: StoreFiles,
  root: string,
  facts: EngineFacts,
  kind: StoreLocation['kind'],
): Promise<StoreSource> {
  if (kind === 'content') return openContentStore(files, root, facts.root ?? facts.imageId);
  return kind === 'overlay2' ? openOverlay2(files, root, facts.imageId) : openPodmanStore(files, root, facts.imageId);
}

/** The error of `export: store`. More rights help only where rights are what is missing. */
function refusal(reason: string, cause: unknown): StoreError {
  const remedy = isDenied(cause) ? 'run as root, or set export: auto or save' : 'set export: auto or save';
  return new StoreError(`export: store, but the engine's own store can't be read: ${reason}`, { cause, remedy });
}

// Where an engine says that it keeps its images. Only what it says: the files tell whether it is so.

/** What is known of an image and its engine. */
export interface EngineFacts {
  readonly engine: 'docker' | 'podman';
  readonly imageId: Digest;
  readonly diffIds?: readonly Digest[];
  /** The manifest or index of an image in the containerd image store. Older engines do not tell it. */
  readonly root?: Digest;
  /** What `docker info` or `podman info` says, as JSON; asked only if it is needed. */
  info(): Promise<unknown>;
  /** DOCKER_HOST, DOCKER_CONTEXT, CONTAINER_HOST … */
  readonly env: NodeJS.ProcessEnv;
}

/** A kind of store, and the folders where it may be, the likeliest first. */
interface StoreLocation {
  readonly kind: 'content' | 'overlay2' | 'podman';
  readonly roots: readonly string[];
}

/** The part of `podman info` that tells the store. */
interface PodmanInfo {
  readonly host?: { readonly serviceIsRemote?: boolean };
  readonly store?: { readonly graphDriverName?: string; readonly graphRoot?: string };
}

/** Where containerd keeps its content below its root. */
const CONTENT = 'io.containerd.content.v1.content';
const CONTAINERD_CONFIG = '/etc/containerd/config.toml';
/** Bytes. */
const MAX_CONFIG_BYTES = 1024 * 1024;
const CONTAINERD_ROOT = '/var/lib/containerd';
/** Where the system's containerd listens; one that dockerd starts has its socket below dockerd's own folder. */
const SYSTEM_SOCKET = /^(\/var)?\/run\/containerd\//;

/**
 * Where the engine's store should be. Throws StoreError that names the obstacle when it is none that can be read here.
 */
async function locate(facts: EngineFacts): Promise<StoreLocation> {
  if (process.platform !== 'linux') throw new StoreError(`on ${process.platform} the engine runs in a virtual machine`);
  assertLocal(facts);
  const info = await facts.info();
  return facts.engine === 'docker' ? docker((info ?? {}) as DockerInfo, facts) : podman((info ?? {}) as PodmanInfo);
}

/**
 * An engine on another host has its files there. A context may name one too; then the image's files are not found here.
 */
function assertLocal({ engine, env }: EngineFacts): void {
  const name = engine === 'docker' ? 'DOCKER_HOST' : 'CONTAINER_HOST';
  const host = env[name];
  if (host && !/^(unix:|\/)/.test(host)) {
    throw new StoreError(`the engine is on another host: ${name} is ${host.replace(/\/\/[^/@]*@/, '//')}`);
  }
}

function docker(info: DockerInfo, { root }: EngineFacts): StoreLocation {
  const { Driver: driver, DockerRootDir: rootDir } = info;
  if (info.OperatingSystem === 'Docker Desktop') throw new StoreError('Docker Desktop runs in a virtual machine');
  if (!rootDir?.startsWith('/')) throw new StoreError('docker info does not name the folder of the engine');
  if (root !== undefined || isContainerdStore(info)) {
    return { kind: 'content', roots: contentRoots(rootDir, info.Containerd?.Address) };
  }
  if (driver !== 'overlay2')
    throw new StoreError(`Docker's storage driver is ${driver}, and only overlay2 can be read`);
  return { kind: 'overlay2', roots: [rootDir] };
}

/** The content stores of Docker's own containerd and of the system's; the socket tells which is the likelier. */
function contentRoots(rootDir: string, address: string | undefined): string[] {
  const own = `${rootDir}/containerd/daemon`;
  const system = [configuredRoot(), CONTAINERD_ROOT];
  const roots = address && SYSTEM_SOCKET.test(address) ? [...system, own] : [own, ...system];
  return [...new Set(roots.filter((root) => root !== undefined))].map((root) => `${root}/${CONTENT}`);
}

/** The `root` of the system's containerd, where its configuration sets one. */
function configuredRoot(): string | undefined {
  try {
    return /^root\s*=\s*["'](\/[^"']*)["']/m.exec(
      readRegularSync(CONTAINERD_CONFIG, MAX_CONFIG_BYTES).toString('utf8'),
    )?.[1];
  } catch {
    return undefined;
  }
}

function podman({ host, store }: PodmanInfo): StoreLocation {
  if (host?.serviceIsRemote) throw new StoreError('Podman is a client of a service elsewhere');
  if (!store?.graphRoot?.startsWith('/')) throw new StoreError('podman info does not name the folder of its storage');
  if (store.graphDriverName !== 'overlay') {
    throw new StoreError(`Podman's storage driver is ${store.graphDriverName}, and only overlay can be read`);
  }
  return { kind: 'podman', roots: [store.graphRoot] };
}

/**
 * Reads with the rights of this process as long as they suffice, and by the helper from the first refusal on. In
 * Podman's rootless storage that is seldom the first file, but one of another user somewhere in a layer.
 */
export class EscalatingFiles implements StoreFiles {
  readonly #own: StoreFiles;
  readonly #start: (reason: StoreError) => Promise<StoreFiles>;
  #helper: Promise<StoreFiles> | undefined;
  /** Why there is no helper; it is not asked for again. */
  #refused: StoreError | undefined;

  /** `start` takes the first refusal and returns the helper's files; its StoreError says why there is none. */
  constructor(own: StoreFiles, start: (reason: StoreError) => Promise<StoreFiles>) {
    this.#own = own;
    this.#start = start;
  }

  size(path: string): Promise<number> {
    return this.#read((files) => files.size(path));
  }

  bytes(path: string, end?: number): Promise<Buffer> {
    return this.#read((files) => files.bytes(path, end));
  }

  range(path: string, start = 0, end?: number): Readable {
    return blockStream(this.#bytes((files, skipped) => files.range(path, start + skipped, end)));
  }

  layer(tarSplit: string, folder: string): Readable {
    return blockStream(this.#bytes((files, skipped) => without(files.layer(tarSplit, folder), skipped)));
  }

  async close(): Promise<void> {
    const helper = await this.#helper?.catch(() => undefined);
    await Promise.all([this.#own.close(), helper?.close()]);
  }

  /** One read: by this process, or else by the helper. */
  async #read<T>(read: (files: StoreFiles) => Promise<T>): Promise<T> {
    try {
      if (!this.#helper) return await read(this.#own);
    } catch (error) {
      return read(await this.#escalate(error));
    }
    return read(await this.#helper);
  }

  /** The bytes of a stream, of which the helper reads what this process may not: it skips what was read already. */
  async *#bytes(read: (files: StoreFiles, skipped: number) => AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    let done = 0;
    let helper = this.#helper;
    try {
      if (!helper) {
        for await (const chunk of read(this.#own, 0)) {
          yield chunk;
          done += chunk.length;
        }
      }
    } catch (error) {
      helper = this.#escalate(error);
    }
    if (helper) yield* read(await helper, done);
  }

  /** The helper's files, when that is what an error calls for; else the error is thrown. */
  async #escalate(error: unknown): Promise<StoreFiles> {
    if (!(error instanceof StoreError) || !error.denied) throw error;
    if (this.#refused) throw withoutHelper(error, this.#refused);
    this.#helper ??= this.#start(error);
    try {
      return await this.#helper;
    } catch (cause) {
      this.#helper = undefined;
      this.#refused = cause instanceof StoreError ? cause : new StoreError(String(cause), { cause });
      throw withoutHelper(error, this.#refused);
    }
  }
}

const withoutHelper = ({ message, path, code }: StoreError, refused: StoreError): StoreError =>
  new StoreError(`${message}, and ${refused.message}`, { path, code, cause: refused });

/** A stream without its first bytes. */
async function* without(stream: AsyncIterable<Buffer>, skipped: number): AsyncGenerator<Buffer> {
  let left = skipped;
  for await (const chunk of stream) {
    if (chunk.length > left) yield chunk.subarray(left);
    left = Math.max(0, left - chunk.length);
  }
}
