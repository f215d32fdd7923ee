/** An image in a container engine: its documents and layers out of the engine's own store, or out of its `save`. */

import type { StreamedBlob } from '../../blob/blob.ts';
import { ImageError, messageOf } from '../../common/error.ts';
import { buildTree, type ImageTree, type ManifestTree } from '../../oci/image-tree.ts';
import { composeManifest } from '../../oci/rewrite.ts';
import { type Descriptor, type Digest, digestOf, MediaType } from '../../oci/types.ts';
import { walk } from '../../oci/walk.ts';
import type { EngineImage } from '../engine/inspect.ts';
import type { EngineList } from '../engine/manifest-list.ts';
import { enginePush } from '../engine/push.ts';
import { saveStream } from '../engine/save.ts';
import type { FoundImage, OpenOptions, Source, StoreSource, StreamSource } from '../source.ts';

/** Opens an engine's own store for an image; undefined when it can't be read. May throw. */
export type StoreOpener = (
  image: EngineImage,
  options: Pick<OpenOptions, 'signal' | 'debug' | 'notice'>,
) => Promise<StoreSource | undefined>;

interface EngineImageOptions {
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
 * The engine's store, opened once in a push: the documents are read from it first, and layers only if some must move,
 * also after a registry has lost a blob. Starting the helper that reads it on GitHub's runners takes longer than most
 * answers.
 */
class SharedStore {
  readonly #opening: Promise<StoreSource | undefined>;

  constructor(opening: Promise<StoreSource | undefined>) {
    this.#opening = opening;
    opening.catch(() => {}); // Thrown by `source`.
  }

  /**
   * The documents, if the store has all of them; undefined if not, and where the store can't be read. Throws the
   * signal's reason.
   */
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

// A manifest list of Podman as one image with manifests: its images are read one by one, as any other image is.

/** One image of the list. */
interface Instance {
  readonly descriptor: Descriptor;
  /** Undefined for one that is not in the storage. */
  readonly found: FoundImage | undefined;
}

/**
 * The image that a list is. All platforms in the storage are pushed, as by `podman manifest push --all`, and
 * `platforms` chooses among them; one that was never pulled is reported as absent.
 */
export function foundList(list: EngineList, options: EngineImageOptions): FoundImage {
  const instances = list.instances.map(({ descriptor, image }) => ({
    descriptor,
    found: image && foundInEngine(image, options),
  }));
  return {
    name: options.image,
    imageId: list.imageId,
    engine: list.engine,
    documents: async (signal) => documentsOf(list, instances, signal),
    open: async (openOptions) => openList(list, instances, openOptions),
    push: (reference, pushOptions) => enginePush(list, reference, pushOptions),
    close: async () => void (await Promise.all(instances.map(({ found }) => found?.close?.()))),
  };
}

async function documentsOf(
  list: EngineList,
  instances: readonly Instance[],
  signal: AbortSignal,
): Promise<ManifestTree | undefined> {
  const silent = { signal, debug: () => {}, notice: () => {} };
  const stores = await storesOf(instances, silent);
  return stores && treeOfStores(list, instances, stores);
}

/** The stores of all instances that are in the storage, in their order; undefined when one can't be read. */
async function storesOf(instances: readonly Instance[], options: OpenOptions): Promise<StoreSource[] | undefined> {
  const present = instances.filter(({ found }) => found !== undefined);
  const stores = await Promise.all(present.map(({ found }) => found?.openStore?.(options)));
  options.signal.throwIfAborted();
  return stores.every((store) => store !== undefined) ? stores : undefined;
}

async function openList(list: EngineList, instances: readonly Instance[], options: OpenOptions): Promise<Source> {
  const stores = options.withoutStore ? undefined : await storesOf(instances, options);
  if (!stores) return new ListStream(list, instances, options);
  const tree = await treeOfStores(list, instances, stores);
  return {
    kind: 'store',
    description: stores[0]?.description ?? 'the storage of Podman',
    tree,
    open: async (digest) => {
      for (const store of stores) {
        const blob = await store.open(digest);
        if (blob) return blob;
      }
      return undefined;
    },
    close: async () => void (await Promise.all(stores.map((store) => store.close()))),
  };
}

async function treeOfStores(
  list: EngineList,
  instances: readonly Instance[],
  stores: readonly StoreSource[],
): Promise<ManifestTree> {
  const sizes = new Map<Digest, number>();
  for (const store of stores) {
    const { tree } = store;
    for (const diffId of tree.kind === 'composed' ? tree.diffIds : []) {
      if (!sizes.has(diffId)) sizes.set(diffId, (await store.open(diffId))?.size ?? 0);
    }
  }
  return treeOfList(
    list,
    instances,
    stores.map(({ tree }) => tree),
    sizes,
  );
}

/**
 * The index with a manifest of plain layers for each image. Podman's own manifests of built images name layers that it
 * has unpacked, and those of pulled ones compressed layers that it no longer has; the push compresses them and rewrites
 * both. `trees` are those of the present instances, `sizes` the bytes of their layers.
 */
function treeOfList(
  { index, name }: EngineList,
  instances: readonly Instance[],
  trees: readonly ImageTree[],
  sizes: ReadonlyMap<Digest, number>,
): ManifestTree {
  const documents = new Map<Digest, Buffer>();
  const add = (bytes: Buffer, mediaType: string): Descriptor => {
    const digest = digestOf(bytes);
    documents.set(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const left = [...trees];
  const manifests = instances.map(({ descriptor, found }) => {
    const tree = found && left.shift();
    if (tree?.kind !== 'composed') return descriptor;
    const layers = tree.diffIds.map((digest) => ({
      mediaType: MediaType.ociLayer,
      digest,
      size: sizes.get(digest) ?? 0,
    }));
    const manifest = composeManifest(add(tree.config, MediaType.ociConfig), layers);
    return { ...descriptor, ...add(manifest, MediaType.ociManifest) };
  });
  const bytes = Buffer.from(JSON.stringify({ ...index, mediaType: MediaType.ociIndex, manifests }));
  const root = add(bytes, MediaType.ociIndex);
  const built = buildTree(root, documents);
  if (!built) throw new ImageError('Manifest', `the manifest list ${name} can't be read`);
  return built.tree;
}

/**
 * The `podman save` of each image after the other. A layer that several have comes several times, and is skipped by its
 * digest.
 */
class ListStream implements StreamSource {
  readonly kind = 'stream';
  readonly description: string;
  readonly #list: EngineList;
  readonly #instances: readonly Instance[];
  readonly #options: OpenOptions;
  readonly #trees: ImageTree[] = [];
  readonly #sizes = new Map<Digest, number>();
  #current: Source | undefined;
  #tree: ManifestTree | undefined;

  constructor(list: EngineList, instances: readonly Instance[], options: OpenOptions) {
    this.description = `${list.engine} save of each image of the manifest list`;
    this.#list = list;
    this.#instances = instances;
    this.#options = options;
  }

  async *blobs(): AsyncGenerator<StreamedBlob> {
    for (const { found } of this.#instances) {
      if (!found) continue;
      const source = await found.open({ ...this.#options, withoutStore: true });
      this.#current = source;
      if (source.kind !== 'stream') throw new ImageError('Export', `${found.imageId} is not read out of a stream`);
      for await (const blob of source.blobs()) {
        if (blob.digest && blob.format === 'tar') this.#sizes.set(blob.digest, blob.size);
        yield blob;
      }
      await source.close();
      this.#trees.push(treeOf(source, found));
    }
    this.#tree = treeOfList(this.#list, this.#instances, this.#trees, this.#sizes);
  }

  tree(): ManifestTree | undefined {
    return this.#tree;
  }

  async close(): Promise<void> {
    await this.#current?.close();
  }
}

function treeOf(source: StreamSource, { imageId }: FoundImage): ImageTree {
  const tree = source.tree();
  if (tree) return tree;
  throw new ImageError('Export', `${source.description} ended without the config of ${imageId}`);
}
