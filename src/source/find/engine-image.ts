/** An image in a container engine: its documents and layers out of the engine's own store, or out of its `save`. */

import { ImageError, messageOf } from '../../oci/error.ts';
import type { ImageTree } from '../../oci/image-tree.ts';
import { walk } from '../../oci/walk.ts';
import type { EngineImage } from '../engine/inspect.ts';
import { enginePush } from '../engine/push.ts';
import { saveStream } from '../engine/save.ts';
import type { FoundImage, OpenOptions, Source, StoreSource } from '../source.ts';

/** Opens an engine's own store for an image; undefined when it can't be read. May throw. */
export type StoreOpener = (
  image: EngineImage,
  options: Pick<OpenOptions, 'signal' | 'debug' | 'notice'>,
) => Promise<StoreSource | undefined>;

export interface EngineImageOptions {
  /** As the user asked for the image. */
  readonly image: string;
  /** How layers leave the engine; `auto` without it. */
  readonly export?: 'auto' | 'save' | 'store';
  readonly signal: AbortSignal;
  readonly debug?: (line: string) => void;
  readonly notice?: (line: string) => void;
  readonly storeOpener?: StoreOpener;
}

/**
 * The image as a push needs it. Its store is opened at once, beside whatever the caller does meanwhile (connections to
 * registries): the store reports manifests and configs that a registry would have to be asked for otherwise.
 */
export function foundInEngine(image: EngineImage, options: EngineImageOptions): FoundImage {
  const { engine, imageId, diffIds, root } = image;
  const { signal, debug = () => {}, notice = () => {}, storeOpener } = options;
  const isStoreWanted = storeOpener !== undefined && options.export !== 'save';
  const store = isStoreWanted ? new SharedStore(storeOpener(image, { signal, debug, notice })) : undefined;
  return {
    name: options.image,
    imageId,
    ...(diffIds ? { diffIds } : {}),
    ...(root ? { root } : {}),
    ...(store
      ? {
          documents: (signal: AbortSignal) => store.documents(signal),
          openStore: (openOptions: OpenOptions) => store.source(openOptions).catch(() => undefined),
        }
      : {}),
    engine,
    open: (openOptions) => openEngineImage(image, store, options, openOptions),
    push: (reference, pushOptions) => enginePush(image, reference, pushOptions),
    close: async () => store?.close(),
  };
}

async function openEngineImage(
  image: EngineImage,
  store: SharedStore | undefined,
  { image: name, export: way = 'auto' }: EngineImageOptions,
  options: OpenOptions,
): Promise<Source> {
  if (way === 'save' || options.withoutStore) return saveStream(image, options);
  try {
    const source = await store?.source(options);
    if (source) return source;
  } catch (error) {
    options.signal.throwIfAborted();
    // With `export: store` the obstacle is the error, as the code that met it reports it.
    if (way === 'store') throw error;
    options.debug(`the store of ${image.engine} is not used: ${messageOf(error)}`);
  }
  if (way === 'auto') return saveStream(image, options);
  throw new ImageError('Export', `the store of ${image.engine} can't be read for ${name}`, {
    remedy: 'run as root on the machine of the engine, or set export to auto',
  });
}

/**
 * The engine's store, opened once in a push: the documents are read from it first, and layers only if some must move, also
 * after a registry has lost a blob. Starting the helper that reads it on GitHub's runners takes longer than most answers.
 */
class SharedStore {
  readonly #opening: Promise<StoreSource | undefined>;

  constructor(opening: Promise<StoreSource | undefined>) {
    this.#opening = opening;
    opening.catch(() => {}); // Thrown by `source`.
  }

  /** The documents, if the store has all of them; undefined if not, and where the store can't be read. Throws the signal's reason. */
  async documents(signal: AbortSignal): Promise<ImageTree | undefined> {
    const store = await this.#opening.catch(() => undefined);
    signal.throwIfAborted();
    return store && isComplete(store.tree) ? store.tree : undefined;
  }

  /** The store for one reader, whose `close` leaves it open for the next. Throws what its opening has thrown. */
  async source({ notice }: OpenOptions): Promise<StoreSource | undefined> {
    const store = await this.#opening;
    if (!store) return undefined;
    const { kind, description, tree } = store;
    notice(`Layers are read straight from ${description}; turn this off with \`export: save\``);
    return { kind, description, tree, open: (digest) => store.open(digest), close: async () => {} };
  }

  async close(): Promise<void> {
    const store = await this.#opening.catch(() => undefined);
    await store?.close();
  }
}

/** Whether no platform is left out and every config is there: what is missing, the registry may still have. */
const isComplete = (tree: ImageTree): boolean =>
  tree.kind === 'composed' ||
  (tree.absent.length === 0 &&
    walk(tree).manifests.every(({ manifest }) => tree.documents.has(manifest.config.digest)));
