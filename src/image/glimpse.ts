/**
 * A look into the engine's own store before it is known whether anything must be read from it: an image that brings its manifests with it
 * (containerd's image store) tells so what it consists of, which the registry would have to be asked for otherwise.
 */
import type { ManifestTree, OpenOptions, StoreSource } from './source.ts';
import { walk } from './tree.ts';

/** Opens the store; undefined when it can't be read. May throw. */
type Opener = (options: OpenOptions) => Promise<StoreSource | undefined>;

export class Glimpse {
  readonly #open: Opener;
  readonly #notices: string[] = [];
  #opening: Promise<StoreSource | undefined> | undefined;
  #isTaken = false;

  constructor(open: Opener) {
    this.#open = open;
  }

  /** The documents, if the store has all of them and this process may read it; whatever stands in the way is for `open` to tell. */
  async documents(signal: AbortSignal): Promise<ManifestTree | undefined> {
    const notice = (text: string): void => void this.#notices.push(text);
    this.#opening ??= this.#open({ signal, debug: () => {}, notice, byOwnRights: true });
    const store = await this.#opening.catch(() => undefined);
    signal.throwIfAborted();
    const tree = store?.tree;
    return tree?.kind === 'manifests' && isWhole(tree) ? tree : undefined;
  }

  /** The store that was looked into, for the first who reads from it and closes it; now it is told. */
  async take({ notice }: OpenOptions): Promise<StoreSource | undefined> {
    const store = this.#isTaken ? undefined : await this.#opening?.catch(() => undefined);
    this.#isTaken = true;
    if (store) for (const text of this.#notices) notice(text);
    return store;
  }
}

/** Whether no platform is left out, and every config is there: without one the registry may still know the image. */
const isWhole = (tree: ManifestTree): boolean =>
  tree.absent.length === 0 && walk(tree).manifests.every(({ manifest }) => tree.documents.has(manifest.config.digest));
