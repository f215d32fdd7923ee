/** Finds an image, and what can be known of it without its export, so that an image that is there is never exported. */

import { explain, PushError } from '../common/error.ts';
import { MAX_DOCUMENT_BYTES, readDiffIds } from '../oci/documents.ts';
import type { ImageTree } from '../oci/image-tree.ts';
import { selectPlatforms } from '../oci/platforms.ts';
import type { Reference } from '../oci/reference.ts';
import { compressionsOf, recompressed } from '../oci/rewrite.ts';
import { type Descriptor, type Digest, type Index, isIndexType, isManifestType } from '../oci/types.ts';
import type { Registry } from '../registry/registry.ts';
import type { Repository } from '../registry/repository.ts';
import { type FindOptions, findImage } from '../source/find/find.ts';
import { registrySource } from '../source/registry/registry.ts';
import type { FoundImage } from '../source/source.ts';
import { openEngineStore } from '../source/store/open.ts';
import { activeRepositories, openRegistry, type PushContext } from './context.ts';
import type { Report } from './events.ts';
import { blobsOf, type ImageBlob, uncompressedLayer } from './image-blobs.ts';
import type { TargetRepository } from './target-repository.ts';

/** Finds the image, and asks the registries what its tags name now. Throws ImageError. */
export async function resolve(context: PushContext): Promise<FoundImage> {
  const { request, report, signal, earlier } = context;
  const { image } = context.image;
  const way = request.export === 'store' ? 'store' : 'auto';
  const remote = registrySource(image);
  const asksEarlier = earlier.areElsewhere || request.forceCompression;
  const source = new SourceRepository(context);
  const openRepository = async (reference: Reference) => {
    const repository = await source.open(reference);
    // Beside the image's own first request, and after it; where earlier images under the tags are read, they show it.
    if (!asksEarlier) setImmediate(() => activeRepositories(context).map((target) => tagsBefore(context, target)));
    return repository;
  };
  const found = await findSource(source, {
    image,
    engine: request.engine,
    export: request.export,
    env: request.env,
    tempDir: request.workDir,
    signal,
    debug: (text) => report({ type: 'debug', text }),
    notice: (text) => report({ type: 'info', text }),
    warning: (text) => report({ type: 'warning', text }),
    openRepository,
    withConfigs: request.forceCompression,
    withReferrers: !remote || !isRetag(context, remote),
    storeOpener: (engineImage, options) => openEngineStore(engineImage, { ...options, export: way, env: request.env }),
  });
  if (found.root === undefined && found.diffIds) context.names.addLayers(found.diffIds);
  // An image with manifests of its own hardly ever has layers that are compressed here: earlier images only show where
  // to mount its blobs from.
  if (found.root === undefined || asksEarlier) {
    if (found.root === undefined && found.diffIds) earlier.config = { digest: found.imageId, diffIds: found.diffIds };
    earlier.ask();
  }
  // At the same time as all that follows: what they name shows at the end whether anything must be put.
  for (const repository of activeRepositories(context)) void tagsBefore(context, repository);
  if (found.root !== undefined && earlier.areElsewhere) await earlier.read();
  const where = found.engine ? ` in ${found.engine}` : '';
  report({ type: 'info', text: `Image ${image}: ${found.imageId}${where}` });
  return found;
}

/** Whether an image goes nowhere but to other tags of its own repository, where all that refers to it is already. */
const isRetag = ({ image: { destinations } }: PushContext, { apiHost, repository }: Reference): boolean =>
  destinations.every((one) => one.apiHost === apiHost && one.repository === repository);

/** Finds the image; one in a registry is followed by the repository that it is in. */
async function findSource(source: SourceRepository, options: FindOptions): Promise<FoundImage> {
  try {
    return await source.foundImage(await findImage(options));
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** What a tag named before the push; undefined for nothing, 'unknown' where the registry does not say. */
export type TagBefore = Descriptor | undefined | 'unknown';

/** What the tags of a repository name, as the first answers to this push have it. Never rejects. */
export async function tagsBefore(
  context: PushContext,
  target: TargetRepository,
): Promise<ReadonlyMap<string, TagBefore>> {
  const tags = target.references.flatMap(({ tag }) => tag ?? []);
  const descriptors = await Promise.all(
    tags.map((tag) =>
      context.documents.descriptor(target.repository, tag, target.signal).catch((error: unknown): TagBefore => {
        if (target.signal.aborted) return 'unknown';
        context.report({
          type: 'debug',
          text: `what ${target.name}:${tag} names is not known: ${explain(error).message}`,
        });
        return 'unknown';
      }),
    ),
  );
  return new Map(tags.map((tag, index) => [tag, descriptors[index]]));
}

/**
 * The part of an engine's image that is pushed, as far as that is known without an export; a file source shows it when
 * it is opened.
 */
export async function knownTree(context: PushContext, found: FoundImage): Promise<ImageTree | undefined> {
  const tree = (found.engine || found.documents) && (await treeWithoutExport(context, found));
  return tree && selected(context, tree);
}

/** The layers that the engine's inspect reports, where they are plain for certain. */
export const layersByDiffId = (found: FoundImage): ImageBlob[] =>
  found.root === undefined ? (found.diffIds ?? []).map((diffId) => uncompressedLayer(diffId)) : [];

/** The blobs of an image that are known before it is opened. */
export const knownBlobs = (found: FoundImage, tree: ImageTree | undefined): ImageBlob[] =>
  tree ? blobsOf(tree) : layersByDiffId(found);

/**
 * The part of a tree that is pushed: the platforms asked for, of those that are present, with `force-compression`
 * marked to be compressed again. Reports what is left out. Throws PushError for annotations on an image that has
 * manifests of its own.
 */
export function selected(context: Pick<PushContext, 'request' | 'report'>, tree: ImageTree): ImageTree {
  if (tree.kind === 'manifests' && Object.keys(context.request.annotations.manifest).length > 0) {
    const what = 'annotations: the image has a manifest of its own, which is pushed byte for byte';
    throw new PushError('Input', what, {
      remedy: 'set annotations where the image is built (docker/build-push-action)',
    });
  }
  const selection = selectPlatforms(tree, context.request.platforms);
  for (const text of selection.warnings) warnOnce(context.report, text);
  const { forceCompression, compression } = context.request;
  if (!forceCompression || selection.tree.kind !== 'manifests') return selection.tree;
  const again = recompressed(selection.tree, compression);
  if (again.leftOut.length > 0) {
    const names = again.leftOut.map(({ digest }) => digest).join(', ');
    const text = `force-compression changes digests: signatures and attestations of the old ones are left out (${names})`;
    warnOnce(context.report, text);
  }
  if (again.unpaired.length > 0) {
    const names = again.unpaired.map(({ digest }) => digest).join(', ');
    const text = `force-compression: layers of ${names} stay as they are: no config of at most ${MAX_DOCUMENT_BYTES} bytes pairs a diffID (rootfs.diff_ids) with each of them`;
    warnOnce(context.report, text);
  }
  return again.tree;
}

const warned = new WeakMap<Report, Set<string>>();

/** A tree may be selected twice, before its source is opened and then: what is left out is reported once. */
function warnOnce(report: Report, text: string): void {
  const texts = warned.get(report) ?? new Set();
  warned.set(report, texts);
  if (!texts.has(text)) report({ type: 'warning', text });
  texts.add(text);
}

/**
 * What to say of images whose layers come in another compression than the one asked for; undefined where that has an
 * effect.
 */
export function compressionNotice(
  { request }: Pick<PushContext, 'request'>,
  name: string,
  tree: ImageTree,
): string | undefined {
  const { compression, forceCompression } = request;
  // gzip is what is asked for without the input.
  if (compression === 'gzip' || forceCompression || tree.kind !== 'manifests') return undefined;
  const came = compressionsOf(tree);
  if (!came.has('gzip') || came.has(undefined)) return undefined;
  return `compression: ${compression} has no effect on ${name}: its layers come compressed with gzip and are pushed as they are; set force-compression to compress them again, under another digest than the image has now`;
}

/**
 * The tree of an engine's image as the engine's own store has it, else as the registry has it; undefined when neither
 * does.
 */
export const treeWithoutExport = async (context: PushContext, found: FoundImage): Promise<ImageTree | undefined> =>
  (await found.documents?.(context.signal)) ?? (await treeFromRegistry(context, found));

/**
 * The tree of an engine's image out of the first registry's own documents: under its manifest's or index's digest
 * (containerd image store), or composed from its config (classic stores). Undefined when the registry lacks them.
 */
async function treeFromRegistry(context: PushContext, found: FoundImage): Promise<ImageTree | undefined> {
  const target = context.registries.find(({ isActive }) => isActive)?.active[0];
  if (!target) return undefined;
  try {
    // Only what the digest is: docker-registry 2.8 answers 500 when it is asked for a manifest and has a config of that
    // digest.
    if (found.root === undefined) return await composedTree(context, target, found);
    return await manifestTree(context, target, found.root);
  } catch (error) {
    context.signal.throwIfAborted();
    context.report({
      type: 'debug',
      text: `the registry's own documents could not be read: ${explain(error).message}`,
    });
    return undefined;
  }
}

async function composedTree(
  { documents }: PushContext,
  { repository, signal }: TargetRepository,
  found: FoundImage,
): Promise<ImageTree | undefined> {
  if (!found.diffIds) return undefined;
  const config = await documents.blob(repository, found.imageId, signal);
  if (!config) return undefined;
  return { kind: 'composed', config, diffIds: readDiffIds(config, `the config ${found.imageId}`) };
}

async function manifestTree(
  context: PushContext,
  { repository, signal }: TargetRepository,
  digest: Digest,
): Promise<ImageTree | undefined> {
  const documents = new Map<Digest, Buffer>();
  const asked = new Map<Digest, Promise<Descriptor | undefined>>();
  // Each document once, however many indexes name it.
  const collect = (wanted: Digest): Promise<Descriptor | undefined> => {
    const known = asked.get(wanted) ?? fetchAll(wanted);
    asked.set(wanted, known);
    return known;
  };
  /** Fetches a manifest, or an index with all that it names. Undefined when any part is missing. */
  const fetchAll = async (wanted: Digest): Promise<Descriptor | undefined> => {
    const found = await context.documents.manifest(repository, wanted, signal);
    if (!found) return undefined;
    documents.set(wanted, found.bytes);
    if (!isIndexType(found.descriptor.mediaType))
      return isManifestType(found.descriptor.mediaType) ? found.descriptor : undefined;
    const { manifests } = JSON.parse(found.bytes.toString('utf8')) as Index;
    const children = await Promise.all(manifests.map((child) => collect(child.digest)));
    return children.every((child) => child !== undefined) ? found.descriptor : undefined;
  };
  const root = await collect(digest);
  return root ? { kind: 'manifests', root, documents, absent: [] } : undefined;
}

/**
 * The repository that an image is read from (`docker://REFERENCE`): in a registry of the destinations, or in another
 * one.
 */
class SourceRepository {
  readonly #context: PushContext;
  #reference: Reference | undefined;
  /** A registry that nothing is pushed to. */
  #own: Registry | undefined;

  constructor(context: PushContext) {
    this.#context = context;
  }

  /**
   * Opens the repository for reading. In a registry of the destinations it shares their connections and credentials;
   * for another one credentials are found in files. Throws for unusable credentials.
   */
  async open(reference: Reference): Promise<Repository> {
    this.#reference = reference;
    const { hosts, request, report, signal } = this.#context;
    const { apiHost, repository } = reference;
    const shared = hosts.get(apiHost)?.registry;
    if (shared) return shared.repository(repository, 'pull');
    const { registry } = await openRegistry(request, apiHost, [reference], { report, signal });
    this.#own = registry;
    return registry.repository(repository, 'pull');
  }

  /**
   * The image that was found, its blobs to be mounted where its registry is a destination too. Its `close` ends the
   * connections.
   */
  async foundImage(found: FoundImage): Promise<FoundImage> {
    const reference = this.#reference;
    if (!reference) return found;
    const { hosts, known, signal } = this.#context;
    const tree = await found.documents?.(signal);
    const blobs = hosts.has(reference.apiHost) && tree ? blobsOf(tree) : [];
    const held = new Set(tree?.kind === 'manifests' ? [...tree.documents.keys(), ...blobs.map(({ key }) => key)] : []);
    for (const { host, repositories } of this.#context.registries) {
      for (const target of repositories) {
        if (host === reference.apiHost && target.repository.name === reference.repository) target.noteHeld(held);
      }
    }
    for (const { key } of blobs) known.addRepository(reference.apiHost, key, reference.repository);
    return { ...found, close: () => this.close() };
  }

  async close(): Promise<void> {
    await this.#own?.close();
  }
}
