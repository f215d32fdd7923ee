/** Finding the image that the user named: in a container engine, in an archive, in a layout. */
import { stat } from 'node:fs/promises';
import { openDockerArchive } from './archive/docker-archive.ts';
import { openArchiveFile } from './archive/spool.ts';
import { openTarFile } from './archive/tar-file.ts';
import { readConfig } from './documents.ts';
import type { EngineName } from './engine/command.ts';
import { type EngineImage, inspectImage, isFound, type NoImage } from './engine/inspect.ts';
import { enginePush } from './engine/push.ts';
import { saveStream } from './engine/save.ts';
import { ImageError, messageOf } from './error.ts';
import { type Files, FolderFiles } from './files.ts';
import { layoutIndex, openLayout } from './layout/layout.ts';
import { type Digest, digestOf, isPlainLayerType } from './oci.ts';
import { parseReference, splitReference } from './reference.ts';
import type { FoundImage, ImageTree, OpenOptions, Source, StoreSource } from './source.ts';
import { walk } from './tree.ts';

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
  const file = /^(docker-archive|oci-archive|oci):(.*)$/s.exec(image);
  if (file) return findInFile(image, file[1] as Transport, file[2]!, options);
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

type Transport = 'docker-archive' | 'oci-archive' | 'oci';

async function findInEngine(options: FindOptions): Promise<FoundImage> {
  const { signal, debug = () => {} } = options;
  const command = { env: options.env ?? process.env, signal };
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
  return {
    name: options.image,
    imageId,
    diffIds,
    ...(root ? { root } : {}),
    engine,
    open: (openOptions) => openEngineImage(image, options, openOptions),
    push: (reference, pushOptions) => enginePush(image, reference, pushOptions),
  };
}

async function openEngineImage(image: EngineImage, options: FindOptions, openOptions: OpenOptions): Promise<Source> {
  const { export: way = 'auto', storeOpener } = options;
  if (way === 'save' || openOptions.withoutStore) return saveStream(image, openOptions);
  try {
    const store = await storeOpener?.(image, openOptions);
    if (store) return store;
  } catch (error) {
    openOptions.signal.throwIfAborted();
    // Whoever asked for the store is told the obstacle in the words of the one who met it.
    if (way === 'store') throw error;
    openOptions.debug(`the store of ${image.engine} is not used: ${messageOf(error)}`);
  }
  if (way === 'auto') return saveStream(image, openOptions);
  throw new ImageError('Export', `the store of ${image.engine} can't be read for ${options.image}`, {
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

async function findInFile(name: string, transport: Transport, rest: string, options: FindOptions): Promise<FoundImage> {
  const { path, ref } = await splitPath(transport, rest);
  const openAgain = async (signal: AbortSignal) =>
    openStore(await openFiles(transport, path, { ...options, signal }), ref);
  // The first opening takes what was read to find the image: a compressed archive is decompressed once.
  let first: StoreSource | undefined = await openAgain(options.signal);
  const open = async ({ signal }: OpenOptions) => {
    const store = first ?? (await openAgain(signal));
    first = undefined;
    return store;
  };
  return { name, ...describe(first.tree), open };
}

/** skopeo's syntax: the first colon after the path begins the reference. A path that has a colon itself is taken whole if it exists. */
async function splitPath(transport: Transport, rest: string): Promise<{ path: string; ref: string | undefined }> {
  const exists = (path: string) =>
    stat(path).then(
      () => true,
      () => false,
    );
  const colon = rest.indexOf(':');
  if (rest === '' || colon === 0)
    throw new ImageError('Resolve', `${transport}: names no ${transport === 'oci' ? 'folder' : 'file'}`);
  if (colon < 0 || (await exists(rest))) return { path: rest, ref: undefined };
  return { path: rest.slice(0, colon), ref: rest.slice(colon + 1) || undefined };
}

async function openFiles(transport: Transport, path: string, options: FindOptions): Promise<Files> {
  const description = `${transport === 'oci' ? 'OCI layout' : 'archive'} ${path}`;
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    const what = error.code === 'ENOENT' ? 'does not exist' : `can't be read: ${error.message}`;
    throw new ImageError('Resolve', `the ${description} ${what}`, { remedy: 'check the path', cause: error });
  });
  if (found.isDirectory() !== (transport === 'oci')) {
    const [is, instead] = found.isDirectory() ? ['a folder', `oci:${path}`] : ['a file', `oci-archive:${path}`];
    throw new ImageError('Resolve', `${path} is ${is}`, { remedy: `write ${instead}` });
  }
  if (transport === 'oci') return new FolderFiles(path, description);
  const file = await openArchiveFile(path, description, options);
  try {
    return await openTarFile(file, description);
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** A layout where there is one; docker's own list of images names only its engine's platform, and loses media types. */
async function openStore(files: Files, ref: string | undefined): Promise<StoreSource> {
  try {
    const index = await layoutIndex(files);
    const store = index ? await openLayout(files, index, ref) : await openDockerArchive(files, ref);
    if (store) return store;
    throw new ImageError('Resolve', `${files.description} holds no image: neither index.json nor manifest.json`, {
      remedy: 'give what docker save, podman save, skopeo copy or buildx with type=oci wrote',
    });
  } catch (error) {
    await files.close();
    throw error;
  }
}

function describe(tree: ImageTree): Pick<FoundImage, 'imageId' | 'diffIds' | 'root'> {
  if (tree.kind === 'composed') return { imageId: digestOf(tree.config), diffIds: tree.diffIds };
  const { manifests, indexes } = walk(tree);
  const only = indexes.length === 0 ? manifests[0] : undefined;
  const config = only && tree.documents.get(only.manifest.config.digest);
  const plain = manifests.some(
    ({ isImage, manifest }) => isImage && manifest.layers.some((layer) => isPlainLayerType(layer.mediaType)),
  );
  return {
    imageId: only?.manifest.config.digest ?? tree.root.digest,
    ...(only?.isImage && config ? { diffIds: diffIdsOf(config, only.manifest.config.digest) } : {}),
    // With layers to compress the push makes another manifest than the one that lies here.
    ...(plain ? {} : { root: tree.root.digest }),
  };
}

const diffIdsOf = (config: Buffer, digest: Digest): readonly Digest[] =>
  readConfig(config, `the config ${digest}`).rootfs.diff_ids;
