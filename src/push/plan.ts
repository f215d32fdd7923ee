/**
 * Where each blob of an image comes from: it exists in every registry, or is mounted, or lies in memory, in the cache,
 * in the source.
 */

import type { LayerCache } from '../cache/layer-cache.ts';
import type { ImageTree } from '../oci/image-tree.ts';
import { formatReference } from '../oci/reference.ts';
import type { Descriptor, Digest } from '../oci/types.ts';
import type { FoundImage } from '../source/source.ts';
import { activeRegistries, activeRepositories, type PushContext } from './context.ts';
import type { BlobFate } from './events.ts';
import { blobsOf, documentsInMemory, type ImageBlob, type UploadAgain } from './image-blobs.ts';
import type { TargetRegistry } from './registries.ts';
import { layersByDiffId, selected, treeWithoutExport } from './resolve.ts';
import type { TargetRepository } from './target-repository.ts';

export type BlobPlace =
  /** Every active registry has it, or took it by a mount. */
  | { readonly at: 'registry'; readonly descriptor: Descriptor }
  | { readonly at: 'memory'; readonly bytes: Buffer }
  /** A verified file. */
  | { readonly at: 'cache'; readonly descriptor: Descriptor; readonly path: string }
  | { readonly at: 'source' };

/** The Actions cache's service takes about half a second to answer on a fresh runner: as long as sending this. */
export const WORTH_ASKING_BYTES = 10 * 1024 * 1024;

export class Plan {
  readonly #context: PushContext;
  readonly #again: UploadAgain;
  readonly #places = new Map<Digest, Promise<BlobPlace>>();
  #documents: ReadonlyMap<Digest, Buffer> = new Map();

  constructor(context: PushContext, again: UploadAgain) {
    this.#context = context;
    this.#again = again;
  }

  /** The tree is known now: its documents are in memory. */
  know(tree: ImageTree): void {
    this.#documents = documentsInMemory(tree);
  }

  /** Where a blob comes from. Registries and caches are asked once for each. Throws when no registry is left. */
  locate(blob: ImageBlob): Promise<BlobPlace> {
    const known = this.#places.get(blob.key);
    if (known) return known.then((place) => (place.at === 'source' ? this.#placeOfSource(blob) : place));
    const place = this.#locate(blob);
    place.catch(() => {});
    this.#places.set(blob.key, place);
    return place;
  }

  async #locate(blob: ImageBlob): Promise<BlobPlace> {
    const mayExist = !this.#again.blobs.has(blob.key);
    const descriptor = mayExist ? await findExisting(this.#context, blob) : undefined;
    if (descriptor) return { at: 'registry', descriptor };
    if (blob.plain && this.#context.cache) return this.#fromCache(blob, await this.#context.cache.get(), mayExist);
    const mounted = mayExist ? await this.#fromElsewhere(blob) : undefined;
    return mounted ? { at: 'registry', descriptor: mounted } : this.#placeOfSource(blob);
  }

  /**
   * The caches are only asked for plain layers that the registry's own images did not explain: on a fresh runner their
   * service takes about half a second to answer, as long as all the rest of a push that has nothing to move.
   */
  async #fromCache(blob: ImageBlob, cache: LayerCache, mayExist: boolean): Promise<BlobPlace> {
    const { known, signal } = this.#context;
    known.addCached(await cache.known());
    const existing = mayExist ? await findExisting(this.#context, blob) : undefined;
    if (existing) return { at: 'registry', descriptor: existing };
    const restored = await cache.restore(blob.key);
    signal.throwIfAborted();
    return restored ? { at: 'cache', ...restored } : { at: 'source' };
  }

  /**
   * A large layer that came compressed, by a mount from a repository that another job has pushed it to: the cache says
   * which.
   */
  async #fromElsewhere(blob: ImageBlob): Promise<Descriptor | undefined> {
    const { cache, known, request } = this.#context;
    if (blob.plain || !cache || request.dryRun || (blob.size ?? 0) < WORTH_ASKING_BYTES) return undefined;
    known.addCached(await (await cache.get()).known());
    return findExisting(this.#context, blob);
  }

  #placeOfSource(blob: ImageBlob): BlobPlace {
    const bytes = blob.plain ? undefined : this.#documents.get(blob.key);
    return bytes ? { at: 'memory', bytes } : { at: 'source' };
  }
}

/**
 * The blob that stands for an image's blob, if every active registry has it (by HEAD) or takes it by a mount; undefined
 * when it must be sent. What every repository has said just now that it lacks is not asked for again. A registry that
 * can't be asked has failed; throws when none is left.
 */
export async function findExisting(context: PushContext, blob: ImageBlob): Promise<Descriptor | undefined> {
  for (const candidate of await candidatesOf(context, blob)) {
    const registries = activeRegistries(context);
    const canMount = registries.some((registry) => registry.canMount(candidate.digest, context.known));
    // A size of 0 is one that is not known.
    const lacks = (target: TargetRepository) =>
      target.lacks(candidate.digest, candidate.size || Number.POSITIVE_INFINITY);
    if (!canMount && activeRepositories(context).every(lacks)) continue;
    const answers = await Promise.all(
      registries.map(async (registry) => {
        const from = context.known.repositories(registry.host, candidate.digest);
        return {
          registry,
          presence: await registry.existsOrMount(candidate.digest, from, candidate.size || undefined),
        };
      }),
    );
    activeRegistries(context);
    const active = answers.filter(({ registry }) => registry.isActive);
    const isThere = ({ presence }: (typeof answers)[number]) => presence && isThatBlob(blob, candidate, presence);
    if (!active.every(isThere)) continue;
    for (const { registry, presence } of active) note(context, registry, blob, candidate, presence?.fate ?? 'exists');
    return candidate;
  }
  return undefined;
}

/** The blobs that may stand for one: itself, or for a plain layer what is known of compressed ones. */
async function candidatesOf(context: PushContext, blob: ImageBlob): Promise<readonly Descriptor[]> {
  const { key, mediaType, size } = blob;
  if (!blob.plain) return [{ mediaType, digest: key, size: size ?? 0 }];
  await context.earlier.read();
  return context.known.candidates(key);
}

/** A hint that names another size than the registry does is wrong about something: it is not used. */
function isThatBlob(blob: ImageBlob, candidate: Descriptor, presence: { size?: number }): boolean {
  return !blob.plain || presence.size === undefined || presence.size === candidate.size;
}

function note(context: PushContext, target: TargetRegistry, blob: ImageBlob, found: Descriptor, fate: BlobFate): void {
  const { digest, size, mediaType } = found;
  const what = { fate, fromCache: false, retries: 0, seconds: 0 };
  context.report({ type: 'blob-end', label: context.names.nameOf(blob), host: target.host, digest, size, ...what });
  context.stats.enter({
    digest,
    size,
    mediaType,
    ...(blob.diffId === undefined ? {} : { diffId: blob.diffId }),
    registry: target.host,
    what: fate,
    fromCache: false,
    bytesSent: 0,
    bytesResent: 0,
    retries: 0,
    seconds: 0,
  });
}

// Says what a push would move, and changes nothing: only HEAD and GET requests are sent, and no engine's `save` runs.

/** A line for every blob: whether it is there, or would be uploaded. Throws when no registry can be asked. */
export async function reportDryRun(context: PushContext, found: FoundImage): Promise<void> {
  const blobs = await blobsToReport(context, found);
  context.report({ type: 'phase', phase: 'Upload' });
  for (const target of activeRegistries(context)) {
    for (const blob of blobs ?? []) await reportBlob(context, target, blob);
  }
  if (!blobs) context.report({ type: 'info', text: 'Would export the image: only its export shows its layers' });
  for (const { repositories } of activeRegistries(context)) {
    for (const reference of repositories.flatMap(({ references }) => references)) {
      context.report({ type: 'info', text: `Would put the manifest as ${formatReference(reference)}` });
    }
  }
}

async function blobsToReport(context: PushContext, found: FoundImage): Promise<ImageBlob[] | undefined> {
  const tree = found.engine ? await treeWithoutExport(context, found) : await treeOfFile(context, found);
  if (tree) context.names.addTree(tree);
  if (tree) return blobsOf(selected(context, tree));
  return found.root === undefined && found.diffIds ? layersByDiffId(found) : undefined;
}

async function treeOfFile(context: PushContext, found: FoundImage): Promise<ImageTree | undefined> {
  const ignore = () => {};
  const source = await found.open({ signal: context.signal, debug: ignore, notice: ignore });
  await source.close();
  return source.kind === 'store' ? source.tree : undefined;
}

async function reportBlob(
  context: PushContext,
  target: PushContext['registries'][number],
  blob: ImageBlob,
): Promise<void> {
  const { size } = blob;
  let isThere = false;
  let from: string | undefined;
  for (const { digest } of await candidatesOf(context, blob)) {
    from ??= context.known.repositories(target.host, digest).at(0);
    // Only HEAD: a mount would change the registry.
    const heads = target.active.map(({ repository, signal }) => repository.headBlob(digest, signal));
    isThere ||= (await Promise.all(heads)).every(({ state }) => state === 'present');
  }
  const bytes = size === undefined ? '' : ` (${size} bytes)`;
  const wouldBe = from === undefined ? `would be uploaded${bytes}` : `would be mounted from ${from}`;
  const text = `${context.names.nameOf(blob)}: ${isThere ? 'exists' : wouldBe} at ${target.host}`;
  context.report({ type: 'info', text });
}
