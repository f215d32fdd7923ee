/** Brings every blob of an image into every target, from the cheapest place that has it. */

import type { ImageTree } from '../oci/image-tree.ts';
import { selectPlatforms } from '../oci/platforms.ts';
import type { Descriptor, Digest } from '../oci/types.ts';
import type { FoundImage, Source, StoreSource, StreamSource } from '../source/source.ts';
import type { PushContext } from './context.ts';
import { explain, PushError } from './error.ts';
import {
  blobsOf,
  documentsInMemory,
  type ForcedBlobs,
  type ImageBlob,
  NO_FORCED_BLOBS,
  uncompressedLayer,
} from './image-blobs.ts';
import { NOTHING_TO_EXPORT, OpenStoreTransfer } from './open-store.ts';
import { treeWithoutExport } from './plan.ts';
import { Transfer } from './transfer.ts';
import type { KeptLayer } from './upload-queue.ts';

/** What a transfer came to: the image's tree, the blobs that stand for its plain layers, and where the bytes came from. */
export interface Moved {
  readonly tree: ImageTree;
  /** For each plain layer (by diffID) the compressed blob that stands for it. */
  readonly compressed: ReadonlyMap<Digest, Descriptor>;
  /** What the cache may keep. */
  readonly kept: readonly KeptLayer[];
  readonly exported: string;
}

/** Moves an image: first by asking the registry, then from the cache, and only then out of its source. */
export async function move(job: PushContext, found: FoundImage, force: ForcedBlobs = NO_FORCED_BLOBS): Promise<Moved> {
  const transfer = new Transfer(job, force);
  const tree = await knownTree(job, found);
  const pieces = tree ? blobsOf(tree) : layersTold(found);
  const atHand = tree && (await OpenStoreTransfer.of(job, found, transfer, tree, pieces));
  const description = await settle(transfer, pieces, atHand);
  if (tree && description !== undefined) {
    await transfer.delivered();
    return completed(job, found, transfer, { kind: 'store', description, tree, pieces }, tree);
  }
  job.report({ type: 'phase', phase: 'Export' });
  await useCache(job, transfer, pieces);
  if (tree) transfer.fromMemory(pieces, documentsInMemory(tree));
  if (!tree || !pieces.every(({ key }) => transfer.isTaken(key))) return exportMissing(job, found, transfer, tree);
  job.report({ type: 'info', text: NOTHING_TO_EXPORT });
  job.report({ type: 'phase', phase: 'Upload' });
  await transfer.delivered();
  return movedBy(transfer, tree, 'nothing');
}

/** Asks every registry for the pieces, and sends what is at hand meanwhile: gives what that came out of. */
async function settle(
  transfer: Transfer,
  pieces: readonly ImageBlob[],
  atHand: OpenStoreTransfer | undefined,
): Promise<string | undefined> {
  try {
    // From the top: what has changed lies there.
    await transfer.settle(pieces.toReversed(), (piece) => atHand?.missing(piece));
  } catch (error) {
    await atHand?.close().catch(() => {});
    throw error;
  }
  return atHand?.sent();
}

/**
 * Asks the caches, but only for plain layers that the registry's own images did not explain: on a fresh runner their
 * service takes about half a second to answer, as long as all the rest of a push that has nothing to move.
 */
async function useCache(job: PushContext, transfer: Transfer, pieces: readonly ImageBlob[]): Promise<void> {
  const missing = pieces.filter(({ key, plain }) => plain && !transfer.isTaken(key));
  if (!job.cache || missing.length === 0) return;
  const cache = await job.cache.get();
  for (const [diffId, descriptor] of await cache.known()) job.known.add(diffId, descriptor);
  await transfer.settle(missing);
  await transfer.fromCache(missing);
}

/** The part of an engine's image that is pushed, as far as that is known. A file source tells its own for nothing. */
async function knownTree(job: PushContext, found: FoundImage): Promise<ImageTree | undefined> {
  const tree = found.engine && (await treeWithoutExport(job, found));
  return tree && selected(job, tree);
}

/** The layers that the engine's inspect tells, where they are plain for certain. */
function layersTold(found: FoundImage): ImageBlob[] {
  return found.root === undefined ? (found.diffIds ?? []).map((diffId) => uncompressedLayer(diffId)) : [];
}

/** Opens the source and moves what is missing. */
async function exportMissing(
  job: PushContext,
  found: FoundImage,
  transfer: Transfer,
  expected: ImageTree | undefined,
): Promise<Moved> {
  return completed(job, found, transfer, await exportOnce(job, found, transfer, expected, false), expected);
}

/** What was moved is the whole image; where an engine's own store has given wrong bytes or none, `save` comes next. */
async function completed(
  job: PushContext,
  found: FoundImage,
  transfer: Transfer,
  first: Exported,
  expected: ImageTree | undefined,
): Promise<Moved> {
  const missing = first.pieces.filter(({ key }) => !transfer.isTaken(key));
  const isEngineStore = first.kind === 'store' && found.engine !== undefined;
  if (missing.length === 0 || !isEngineStore) return wholeOf(first, transfer);
  const lacks = missing.map(({ key }) => {
    const cause = transfer.spoiled.get(key);
    const reason = cause === undefined ? 'it is not there' : explain(cause).message;
    return { cause, text: `${first.description} does not give ${key}: ${reason}` };
  });
  if (job.request.export === 'store') {
    const { text, cause } = lacks[0]!;
    throw new PushError('Export', `export: store, but ${text}`, { cause, remedy: 'set export: auto or save' });
  }
  for (const { text } of lacks) job.report({ type: 'debug', text: `${text}; exporting it with save` });
  return wholeOf(await exportOnce(job, found, transfer, expected, true), transfer);
}

interface Exported {
  readonly kind: Source['kind'];
  readonly description: string;
  readonly tree: ImageTree;
  readonly pieces: readonly ImageBlob[];
}

function wholeOf({ tree, pieces, description }: Exported, transfer: Transfer): Moved {
  assertComplete(transfer, pieces, tree);
  return movedBy(transfer, tree, description);
}

const movedBy = ({ compressed, kept }: Transfer, tree: ImageTree, exported: string): Moved => ({
  tree,
  compressed,
  kept,
  exported,
});

async function exportOnce(
  job: PushContext,
  found: FoundImage,
  transfer: Transfer,
  expected: ImageTree | undefined,
  withoutStore: boolean,
): Promise<Exported> {
  const source = await found.open({
    signal: job.signal,
    withoutStore,
    debug: (text) => job.report({ type: 'debug', text }),
    notice: (text) => job.report({ type: 'info', text }),
  });
  const { kind, description } = source;
  job.report({ type: 'info', text: `Reading ${found.name} from ${description}` });
  job.report({ type: 'phase', phase: 'Upload' });
  try {
    const tree =
      source.kind === 'store'
        ? await drainStore(job, source, transfer)
        : await drainStream(job, source, transfer, found, expected);
    return { kind, description, tree, pieces: blobsOf(tree) };
  } finally {
    await source.close();
  }
}

async function drainStore(job: PushContext, source: StoreSource, transfer: Transfer): Promise<ImageTree> {
  const tree = selected(job, source.tree);
  const pieces = blobsOf(tree);
  transfer.fromMemory(pieces, documentsInMemory(tree));
  await transfer.settle(pieces);
  await transfer.fromStore(source, pieces);
  await transfer.delivered();
  return tree;
}

async function drainStream(
  job: PushContext,
  source: StreamSource,
  transfer: Transfer,
  found: FoundImage,
  expected: ImageTree | undefined,
): Promise<ImageTree> {
  const keys = expected && new Set(blobsOf(expected).map(({ key }) => key));
  await transfer.fromStream(source, {
    isWanted: (key) => keys === undefined || keys.has(key),
    isComplete: () => isComplete(job, transfer, expected ?? source.tree()),
    // Which platforms an archive's layers belong to is told by its documents, and those come late.
    hold: job.request.platforms.length > 0 && expected === undefined,
  });
  const tree = expected ?? selected(job, treeOf(source, found));
  const pieces = blobsOf(tree);
  const wanted = new Set(pieces.map(({ key }) => key));
  await transfer.releaseHeld((key) => wanted.has(key));
  transfer.fromMemory(pieces, documentsInMemory(tree));
  await transfer.delivered();
  await transfer.settle(pieces);
  return tree;
}

/** Whether nothing more is needed from a stream: its tree is known, and every blob of it is taken or in memory. */
function isComplete(job: PushContext, transfer: Transfer, tree: ImageTree | undefined): boolean {
  if (!tree) return false;
  const chosen = selected({ ...job, report: () => {} }, tree);
  const atHand = documentsInMemory(chosen);
  return blobsOf(chosen).every(({ key }) => transfer.isTaken(key) || atHand.has(key));
}

function treeOf(source: StreamSource, found: FoundImage): ImageTree {
  const tree = source.tree();
  if (tree) return tree;
  throw new PushError('Export', `${source.description} ended without the manifest or config of ${found.imageId}`, {
    remedy: 'check that the image is whole: the same `save` into a file, and its `load`, must work',
  });
}

/** The part of a tree that is pushed: the platforms asked for, of those that are present. Says what is left out. */
function selected(job: Pick<PushContext, 'request' | 'report'>, tree: ImageTree): ImageTree {
  const selection = selectPlatforms(tree, job.request.platforms);
  for (const text of selection.warnings) job.report({ type: 'warning', text });
  return selection.tree;
}

/** Whether a transfer brought all of an image. */

/** Every piece of a tree is in the registry or on its way; otherwise says which one is in neither place, and what to do. */
export function assertComplete(transfer: Transfer, pieces: readonly ImageBlob[], tree: ImageTree): void {
  const missing = pieces.filter(({ key }) => !transfer.isTaken(key));
  if (missing.length === 0) return;
  const [first] = missing as [ImageBlob];
  const reason = transfer.spoiled.get(first.key);
  if (reason !== undefined) throw reason;
  const names = missing.map(({ key }) => key).join(', ');
  const what = tree.kind === 'composed' ? 'the image' : 'a manifest of the image';
  throw new PushError('Export', `${what} names ${names}, which neither the export nor the registry has`, {
    // https://github.com/moby/moby/issues/49473: `docker save` leaves out layers that the store shares or never pulled.
    remedy: 'pull or build the image again so that all of its layers are on this machine, then push it',
  });
}
