/** Finding the image that the user named: in a container engine, in an archive, in a layout. */
import { ImageError, messageOf } from '../../oci/error.ts';
import type { ManifestTree } from '../../oci/image-tree.ts';
import { parseReference, splitReference } from '../../oci/reference.ts';
import { walk } from '../../oci/walk.ts';
import type { EngineName } from '../engine/command.ts';
import { type EngineImage, inspectImage, isFound, type NoImage } from '../engine/inspect.ts';
import { enginePush } from '../engine/push.ts';
import { saveStream } from '../engine/save.ts';
import type { FoundImage, OpenOptions, Source, StoreSource } from '../source.ts';
import { fileSource, findInFile } from './find-file.ts';

/** Opens an engine's own store for an image; undefined when it can't be read by this process. May throw. */
export type StoreOpener = (image: EngineImage, options: OpenOptions) => Promise<StoreSource | undefined>;

export interface FindOptions {
  /** An image name or ID, or `docker-archive:FILE[:ref]`, `oci-archive:FILE[:ref]`, `oci:DIR[:ref]`. */
  readonly image: string;
  readonly engine: 'auto' | EngineName;
  /** How layers leave an engine; `auto` without it. */
  readonly export?: 'auto' | 'save' | 'store';
  /** The environment of the engine's tool: DOCKER_HOST, DOCKER_CONFIG, PATH. `process.env` without it. */
  readonly env?: NodeJS.ProcessEnv;
  /** Where compressed archives are decompressed. */
  readonly tempDir?: string;
  readonly signal: AbortSignal;
  readonly debug?: (line: string) => void;
  readonly storeOpener?: StoreOpener;
}

/**
 * Finds an image without reading its layers. Throws ImageError that says what was tried, or the signal's reason when
 * that is aborted.
 */
export async function findImage(options: FindOptions): Promise<FoundImage> {
  const { image } = options;
  const file = fileSource(image);
  if (file) return findInFile(image, file.transport, file.rest, options);
  const transport = /^(docker-daemon|containers-storage|dir|docker):/.exec(image)?.[1];
  // `dir:latest` is an image called dir; `docker://…` and absolute paths are skopeo's.
  if (transport && /^[a-z-]+:\//.test(image)) {
    throw new ImageError('Resolve', `${JSON.stringify(image)}: ${transport}: is not a source of images here`, {
      remedy: 'give the name of an image in docker or podman, docker-archive:FILE, oci-archive:FILE or oci:DIR',
    });
  }
  if (image === '' || image.startsWith('-') || /[\s\p{Cc}]/u.test(image)) {
    throw new ImageError('Resolve', `${JSON.stringify(image)} is not the name or ID of an image`, {
      remedy: 'give it as docker images shows it, like registry.example.com/team/app:1.2',
    });
  }
  return findInEngine(options);
}

async function findInEngine(options: FindOptions): Promise<FoundImage> {
  const { signal, debug = () => {} } = options;
  const command = { env: options.env ?? process.env, signal, rootSuffices: options.export !== 'save' };
  const engines: readonly EngineName[] = options.engine === 'auto' ? ['docker', 'podman'] : [options.engine];
  const refusals: NoImage[] = [];
  for (const engine of engines) {
    const answer = await inspectImage(engine, lowerRepository(options.image), command);
    if (isFound(answer)) return foundInEngine(answer, options);
    debug(`${engine}: ${answer.why}: ${answer.words}`);
    refusals.push(answer);
  }
  throw notFound(options.image, refusals);
}

const save = async (image: EngineImage, options: OpenOptions): Promise<Source> => saveStream(image, options);

/** Engines know no upper-case repositories, and refuse to look for one. Tags and IDs stay as they are. */
function lowerRepository(image: string): string {
  try {
    if (!parseReference(image).lowered) return image;
  } catch {
    return image;
  }
  const { name } = splitReference(image);
  return name.toLowerCase() + image.slice(name.length);
}

function foundInEngine(image: EngineImage, options: FindOptions): FoundImage {
  const { engine, imageId, diffIds, root } = image;
  const opener: StoreOpener = options.storeOpener ?? (async () => undefined);
  const glimpse = new StorePreview((openOptions) => opener(image, openOptions));
  const glimpsed = {
    documents: (signal: AbortSignal) => glimpse.documents(signal),
    atHand: (openOptions: OpenOptions) => glimpse.take(openOptions),
  };
  const openStore = async (openOptions: OpenOptions) =>
    (await glimpse.take(openOptions)) ?? (await opener(image, openOptions));
  return {
    name: options.image,
    imageId,
    ...(diffIds ? { diffIds } : {}),
    ...(root ? { root } : {}),
    ...(root && options.export !== 'save' ? glimpsed : {}),
    engine,
    open: (openOptions) => openEngineImage(image, options, openOptions, openStore),
    push: (reference, pushOptions) => enginePush(image, reference, pushOptions),
  };
}

async function openEngineImage(
  image: EngineImage,
  { image: name, export: way = 'auto' }: FindOptions,
  openOptions: OpenOptions,
  openStore: (options: OpenOptions) => Promise<StoreSource | undefined>,
): Promise<Source> {
  if (way === 'save' || openOptions.withoutStore) return save(image, openOptions);
  try {
    const store = await openStore(openOptions);
    if (store) return store;
  } catch (error) {
    openOptions.signal.throwIfAborted();
    // Whoever asked for the store is told the obstacle in the words of the one who met it.
    if (way === 'store') throw error;
    openOptions.debug(`the store of ${image.engine} is not used: ${messageOf(error)}`);
  }
  if (way === 'auto') return save(image, openOptions);
  throw new ImageError('Export', `the store of ${image.engine} can't be read for ${name}`, {
    remedy: 'run as root on the machine of the engine, or set export to auto',
  });
}

function notFound(image: string, refusals: readonly NoImage[]): ImageError {
  const tried = refusals
    .map(({ engine, why, words }) => (why === 'not installed' ? words : `${engine}: ${words}`))
    .join('; ');
  const remedy = refusals.some(({ why }) => why === 'no such image')
    ? 'build or pull it first (with docker/build-push-action: load: true), and check its name with docker images'
    : 'install docker or podman and start it, or push from a file: docker-archive:FILE, oci-archive:FILE, oci:DIR';
  return new ImageError('Resolve', `no image ${JSON.stringify(image)} was found: ${tried}`, { remedy });
}

/**
 * A look into the engine's own store before it is known whether anything must be read from it: an image that brings its manifests with it
 * (containerd's image store) tells so what it consists of, which the registry would have to be asked for otherwise.
 */

/** Opens the store; undefined when it can't be read. May throw. */
type Opener = (options: OpenOptions) => Promise<StoreSource | undefined>;

export class StorePreview {
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
