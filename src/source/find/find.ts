/** Finding the image that the user named: in a container engine, in an archive, in a layout. */

import { stat } from 'node:fs/promises';
import { ImageError } from '../../common/error.ts';
import { colonAfterPath } from '../../common/platform.ts';
import type { ImageTree } from '../../oci/image-tree.ts';
import { parseReference, type Reference, splitReference } from '../../oci/reference.ts';
import { digestOf } from '../../oci/types.ts';
import { isUncompressedLayer, walk } from '../../oci/walk.ts';
import { ArchiveFile, type ArchiveOptions, openTarFile } from '../archive/archive-file.ts';
import { openDockerArchive } from '../archive/docker-archive.ts';
import { type EngineName, type NoImage, remedyFor } from '../engine/command.ts';
import { inspectImage, isFound } from '../engine/inspect.ts';
import { findManifestList } from '../engine/manifest-list.ts';
import { type Files, FolderFiles } from '../files.ts';
import { layoutIndex, openLayout } from '../layout/layout.ts';
import type { RemoteRepository } from '../registry/blobs.ts';
import { findInRegistry, registrySource } from '../registry/registry.ts';
import type { FoundImage, OpenOptions, StoreSource } from '../source.ts';
import { foundInEngine, foundList, type StoreOpener } from './engine-image.ts';

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
  /** A line for the debug log: what was tried, why a store is not read. */
  readonly debug?: (line: string) => void;
  /** A line for the log: how an engine's store is read. */
  readonly notice?: (line: string) => void;
  /** A line for the log that a user must see: what of the image could not be found. */
  readonly warning?: (line: string) => void;
  /** Opens engines' own stores; without it layers leave an engine by its `save` only. */
  readonly storeOpener?: StoreOpener;
  /** Reads the configs of an image in a registry too: they tell the diffIDs of its layers. */
  readonly withConfigs?: boolean;
  /** Whether to look for what refers to an image in a registry; default true. */
  readonly withReferrers?: boolean;
  /** Opens the repository of `docker://REFERENCE`; without it registries are no sources. */
  readonly openRepository?: (reference: Reference) => Promise<RemoteRepository>;
}

/**
 * Finds an image without reading its layers. The caller closes what it gets (`close`). Throws ImageError that names
 * what was tried, or the signal's reason when that is aborted.
 */
export async function findImage(options: FindOptions): Promise<FoundImage> {
  const { image } = options;
  const file = fileSource(image);
  if (file) return findInFile(image, file.transport, file.rest, options);
  const remote = options.openRepository && registrySource(image);
  if (options.openRepository && remote) {
    return findInRegistry(image, await options.openRepository(remote), options);
  }
  expectSource(image);
  if (image === '' || image.startsWith('-') || /[\s\p{Cc}]/u.test(image)) {
    throw new ImageError('Resolve', `${JSON.stringify(image)} is not the name or ID of an image`, {
      remedy: 'give it as docker images shows it, like registry.example.com/team/app:1.2',
    });
  }
  return findInEngine(options);
}

/** Throws ImageError for skopeo's transports that are no sources here, and for URLs: no image has such a name. */
export function expectSource(image: string): void {
  const scheme = /^[a-z][a-z0-9+.-]*:\/\//i.exec(image)?.[0];
  const transport = /^(?:docker-daemon|containers-storage|sif|tarball|ostree|atomic):/.exec(image)?.[0];
  // `dir:latest` is an image called dir; absolute paths are skopeo's.
  const folder = /^(?:dir|docker):(?=\/)/.exec(image)?.[0];
  const wrong = scheme ?? transport ?? folder;
  if (wrong === undefined) return;
  const name = image.slice(wrong.length);
  const isNamed = transport === 'docker-daemon:' || transport === 'containers-storage:';
  throw new ImageError('Resolve', `${JSON.stringify(image)}: ${wrong} is not a source of images here`, {
    remedy: isNamed
      ? `write for example image: ${name || 'registry.example.com/team/app:1.2'}, the image's name in docker or podman`
      : 'give the name of an image in docker or podman, docker-archive:FILE, oci-archive:FILE, oci:DIR or docker://REFERENCE',
  });
}

async function findInEngine(options: FindOptions): Promise<FoundImage> {
  const { signal, debug = () => {} } = options;
  const command = { env: options.env ?? process.env, signal, rootSuffices: options.export !== 'save' };
  const engines: readonly EngineName[] = options.engine === 'auto' ? ['docker', 'podman'] : [options.engine];
  const refusals: NoImage[] = [];
  for (const engine of engines) {
    const name = lowerRepository(options.image);
    const [list, answer] = await Promise.all([
      findManifestList(engine, name, command),
      inspectImage(engine, name, command),
    ]);
    if (list) return foundList(list, options);
    if (isFound(answer)) return foundInEngine(answer, options);
    debug(`${engine}: ${answer.why}: ${answer.message}`);
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

function notFound(image: string, refusals: readonly NoImage[]): ImageError {
  const tried = refusals
    .map(({ engine, why, message }) => (why === 'not installed' ? message : `${engine}: ${message}`))
    .join('; ');
  return new ImageError('Resolve', `no image ${JSON.stringify(image)} was found: ${tried}`, {
    remedy: remedyFor(refusals),
  });
}

// Finding an image in a file: an archive or a layout, by skopeo's transport names.

/**
 * Finds the image that `rest` (`PATH[:ref]`) means; its documents are read, its layers are not. `name` is how the user
 * asked for it. Throws ImageError.
 */
async function findInFile(
  name: string,
  transport: Transport,
  rest: string,
  options: ArchiveOptions,
): Promise<FoundImage> {
  const { path, ref } = await splitPath(transport, rest);
  const openFiles = await filesAt(transport, path);
  const openAgain = async (signal: AbortSignal) => openStore(await openFiles({ ...options, signal }), ref, signal);
  // The first opening takes what was read to find the image: a compressed archive is decompressed once.
  let first: StoreSource | undefined = await openAgain(options.signal);
  const open = async ({ signal }: OpenOptions) => {
    const store = first ?? (await openAgain(signal));
    first = undefined;
    return store;
  };
  return { name, ...describe(first.tree), open };
}

/**
 * skopeo's syntax: the first colon after the path (of a Windows drive, see there) begins the reference. A path with a
 * colon in it is taken as it is if it exists.
 */
async function splitPath(transport: Transport, rest: string): Promise<{ path: string; ref: string | undefined }> {
  const exists = (path: string) =>
    stat(path).then(
      () => true,
      () => false,
    );
  const colon = colonAfterPath(rest);
  if (rest === '' || colon === 0)
    throw new ImageError('Resolve', `${transport}: names no ${transport === 'oci' ? 'folder' : 'file'}`, {
      remedy: `write it as ${transport}:${transport === 'oci' ? 'DIR' : 'FILE'}`,
    });
  if (colon < 0 || (await exists(rest))) return { path: rest, ref: undefined };
  return { path: rest.slice(0, colon), ref: rest.slice(colon + 1) || undefined };
}

/** Looks at what a path means, and returns how its files are opened. Throws ImageError. */
async function filesAt(transport: Transport, path: string): Promise<(options: ArchiveOptions) => Promise<Files>> {
  const description = `${transport === 'oci' ? 'OCI layout' : 'archive'} ${path}`;
  const isStdin = transport !== 'oci' && path === '-';
  const isFolder = !isStdin && (await isFolderAt(path, description));
  if (isFolder !== (transport === 'oci')) {
    const [is, instead] = isFolder ? ['a folder', `oci:${path}`] : ['a file', `oci-archive:${path}`];
    throw new ImageError('Resolve', `${path} is ${is}`, { remedy: `write ${instead}` });
  }
  if (transport === 'oci') return async () => new FolderFiles(path, description);
  const archive = new ArchiveFile(path, description);
  return async (options) => {
    const file = await archive.open(options);
    try {
      return await openTarFile(file, description);
    } catch (error) {
      await file.close();
      throw error;
    }
  };
}

async function isFolderAt(path: string, description: string): Promise<boolean> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    const what = error.code === 'ENOENT' ? 'does not exist' : `can't be read: ${error.message}`;
    throw new ImageError('Resolve', `the ${description} ${what}`, { remedy: 'check the path', cause: error });
  });
  return found.isDirectory();
}

/** A layout where there is one; docker's own list of images names only its engine's platform, and loses media types. */
async function openStore(files: Files, ref: string | undefined, signal: AbortSignal): Promise<StoreSource> {
  try {
    const index = await layoutIndex(files);
    const store = index ? await openLayout(files, index, ref) : await openDockerArchive(files, ref, signal);
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
  const hasUncompressed = manifests.some((one) => one.manifest.layers.some((_, at) => isUncompressedLayer(one, at)));
  return {
    imageId: only?.manifest.config.digest ?? tree.root.digest,
    ...(only?.isImage && only.diffIds ? { diffIds: only.diffIds } : {}),
    // With layers to compress the push makes another manifest than the one that lies here.
    ...(hasUncompressed ? {} : { root: tree.root.digest }),
  };
}

/** The names of images that lie in files: where an image is that no engine has. */
type Transport = 'docker-archive' | 'oci-archive' | 'oci';

/**
 * A file source taken apart: its transport, and the `FILE[:ref]` or `DIR[:ref]` after it. Undefined for the name of an
 * engine's image.
 */
function fileSource(image: string): { readonly transport: Transport; readonly rest: string } | undefined {
  const [, transport, rest] = /^(docker-archive|oci-archive|oci):(.*)$/s.exec(image) ?? [];
  return rest === undefined ? undefined : { transport: transport as Transport, rest };
}
