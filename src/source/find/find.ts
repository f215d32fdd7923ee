/** Finding the image that the user named: in a container engine, in an archive, in a layout. */
import { ImageError } from '../../oci/error.ts';
import { parseReference, type Reference, splitReference } from '../../oci/reference.ts';
import { type EngineName, type NoImage, remedyFor } from '../engine/command.ts';
import { inspectImage, isFound } from '../engine/inspect.ts';
import { findManifestList } from '../engine/manifest-list.ts';
import { findInRegistry, type RemoteRepository, registrySource } from '../registry/registry.ts';
import type { FoundImage } from '../source.ts';
import { foundInEngine, type StoreOpener } from './engine-image.ts';
import { fileSource, findInFile } from './find-file.ts';
import { foundList } from './manifest-list.ts';

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
  /** Opens engines' own stores; without it layers leave an engine by its `save` only. */
  readonly storeOpener?: StoreOpener;
  /** Reads the configs of an image in a registry too: they tell the diffIDs of its layers. */
  readonly withConfigs?: boolean;
  /** Opens the repository of `docker://REFERENCE`; without it registries are no sources. */
  readonly openRepository?: (reference: Reference) => Promise<RemoteRepository>;
}

/**
 * Finds an image without reading its layers. The caller closes what it gets (`close`). Throws ImageError that names what
 * was tried, or the signal's reason when that is aborted.
 */
export async function findImage(options: FindOptions): Promise<FoundImage> {
  const { image } = options;
  const file = fileSource(image);
  if (file) return findInFile(image, file.transport, file.rest, options);
  const remote = options.openRepository && registrySource(image);
  if (options.openRepository && remote) {
    return findInRegistry(image, await options.openRepository(remote), options);
  }
  const transport = /^(docker-daemon|containers-storage|dir|docker):/.exec(image)?.[1];
  // `dir:latest` is an image called dir; absolute paths are skopeo's.
  if (transport && /^[a-z-]+:\//.test(image)) {
    throw new ImageError('Resolve', `${JSON.stringify(image)}: ${transport}: is not a source of images here`, {
      remedy:
        'give the name of an image in docker or podman, docker-archive:FILE, oci-archive:FILE, oci:DIR or docker://REFERENCE',
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
    const name = lowerRepository(options.image);
    const [list, answer] = await Promise.all([
      findManifestList(engine, name, command),
      inspectImage(engine, name, command),
    ]);
    if (list) return foundList(list, options);
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

function notFound(image: string, refusals: readonly NoImage[]): ImageError {
  const tried = refusals
    .map(({ engine, why, words }) => (why === 'not installed' ? words : `${engine}: ${words}`))
    .join('; ');
  return new ImageError('Resolve', `no image ${JSON.stringify(image)} was found: ${tried}`, {
    remedy: remedyFor(refusals),
  });
}
