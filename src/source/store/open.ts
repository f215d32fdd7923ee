/**
 * An engine's own store as a source. An obstacle is no failure: `save` has the same image, only slower.
 * All that is read here is verified against the digest that was asked for.
 */
import type { StoreSource } from '../source.ts';
import { openContentStore } from './content.ts';
import { EscalatingFiles } from './escalating-files.ts';
import { LocalFiles, type StoreFiles } from './files/files.ts';
import { StoreError } from './files/store-error.ts';
import { startHelper } from './helper/client.ts';
import { type EngineFacts, locate, type StoreLocation } from './locate.ts';
import { openOverlay2 } from './overlay2.ts';
import { openPodmanStore } from './podman.ts';

export interface StoreOptions {
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
    const reason = cause instanceof Error ? cause.message : String(cause);
    if (options.export === 'store') throw refusal(reason, cause);
    options.debug(`The engine's own store is not read: ${reason}`);
    return undefined;
  }
}

/** GitHub's own runners come with passwordless sudo. Anywhere else it is used only where the user asked for the store. */
const mayUseSudo = ({ export: wanted, env }: StoreOptions): boolean =>
  process.getuid?.() !== 0 && (wanted === 'store' || env.RUNNER_ENVIRONMENT === 'github-hosted');

const isDenied = (error: unknown): error is StoreError => error instanceof StoreError && error.denied;

/** The files of a store: read by this process, and where it may ask for that, by the helper from the first refusal on. */
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
