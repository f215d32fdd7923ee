/**
 * Brings every blob of an image into every registry: out of a store that is open, else out of its source, which is
 * opened only for what nothing else has.
 */

import type { StreamedBlob } from '../blob/blob.ts';
import { SpoolShortError } from '../blob/spool-file.ts';
import { explain, PushError } from '../common/error.ts';
import type { ImageTree } from '../oci/image-tree.ts';
import type { Descriptor, Digest } from '../oci/types.ts';
import type { FoundImage, Source, StoreSource, StreamSource } from '../source/source.ts';
import type { PushContext } from './context.ts';
import type { Report } from './events.ts';
import {
  blobOfEntry,
  blobsOf,
  documentsInMemory,
  type ImageBlob,
  isRecompressible,
  NOTHING_AGAIN,
  type UploadAgain,
} from './image-blobs.ts';
import type { KeptLayer } from './queue.ts';
import { knownBlobs, knownTree, selected } from './resolve.ts';
import { Transfer } from './transfer.ts';

/**
 * What a transfer came to: the image's tree, the blobs that stand for its plain layers, and where the bytes came from.
 */
export interface Transferred {
  readonly tree: ImageTree;
  /** For each plain layer (by diffID) the compressed blob that stands for it. */
  readonly compressed: ReadonlyMap<Digest, Descriptor>;
  /** What the cache may keep. */
  readonly kept: readonly KeptLayer[];
  readonly exported: string;
}

const NOTHING_TO_EXPORT = 'Nothing to export: the registry and the cache have every layer';

/** Transfers an image. Throws when it can't be read, or when no registry is left. */
export async function transferImage(
  context: PushContext,
  found: FoundImage,
  again: UploadAgain = NOTHING_AGAIN,
): Promise<Transferred> {
  const phases = new Phases(context.report);
  const transfer = new Transfer(context, again, () => phases.enter('Upload'));
  const tree = await knownTree(context, found);
  if (found.root === undefined && found.diffIds) transfer.knowLayers(found.diffIds);
  if (tree) transfer.know(tree);
  // From the top: what has changed lies there.
  const blobs = knownBlobs(found, tree).toReversed();
  const exporting = new Export(context, found, transfer, phases);
  const store = tree && (await exporting.openStore(blobs));
  if (store) return exporting.fromOpenStore(store, tree, blobs);
  if (!(await isSourceNeeded(transfer, tree, blobs))) {
    exporting.nothing();
    await transfer.finished();
    return transferred(transfer, tree!, 'nothing');
  }
  return exporting.complete(await exporting.run(tree, false), tree);
}

/** Resolves to true as soon as one blob is missing, while the registries are still asked for the others. */
async function isSourceNeeded(
  transfer: Transfer,
  tree: ImageTree | undefined,
  blobs: readonly ImageBlob[],
): Promise<boolean> {
  const first = Promise.withResolvers<boolean>();
  const located = transfer.locate(blobs, () => first.resolve(true));
  if (!tree) {
    // Its config or manifest is only in the source; whatever the answers are.
    located.catch(() => {});
    return true;
  }
  located.then((missing) => first.resolve(missing.length > 0), first.reject);
  return first.promise;
}

const transferred = ({ compressed, kept }: Transfer, tree: ImageTree, exported: string): Transferred => ({
  tree,
  compressed,
  kept,
  exported,
});

/** What an export came to. */
interface Exported {
  readonly kind: Source['kind'];
  readonly description: string;
  readonly tree: ImageTree;
}

/** Reads an image from its source into a transfer. */
class Export {
  readonly #context: PushContext;
  readonly #found: FoundImage;
  readonly #transfer: Transfer;
  readonly #phases: Phases;
  /** What is to be reported when the store is read. */
  readonly #notices: string[] = [];

  constructor(context: PushContext, found: FoundImage, transfer: Transfer, phases: Phases) {
    this.#context = context;
    this.#found = found;
    this.#transfer = transfer;
    this.#phases = phases;
  }

  /**
   * The engine's store where it is open already and no layer of it must be compressed: reading from it costs no export.
   */
  async openStore(blobs: readonly ImageBlob[]): Promise<StoreSource | undefined> {
    if (blobs.some(({ plain }) => plain)) return undefined;
    const notice = (text: string) => void this.#notices.push(text);
    return this.#found.openStore?.({ signal: this.#context.signal, debug: this.#debug, notice });
  }

  /**
   * Transfers out of an open store, and closes it; small blobs are sent while registries are still asked for others.
   */
  async fromOpenStore(store: StoreSource, tree: ImageTree, blobs: readonly ImageBlob[]): Promise<Transferred> {
    let isRead = false;
    const onRead = () => {
      if (isRead) return;
      isRead = true;
      this.#phases.enter('Upload');
      for (const text of this.#notices) this.#info(text);
      this.#info(`Reading ${this.#found.name} from ${store.description}`);
    };
    try {
      await this.#transfer.fromStore(store, blobs, onRead);
    } finally {
      await store.close();
    }
    if (!isRead) this.nothing();
    await this.#transfer.finished();
    if (!isRead) return transferred(this.#transfer, tree, 'nothing');
    return this.complete({ kind: 'store', description: store.description, tree }, tree);
  }

  /** Reports that nothing is read. */
  nothing(): void {
    this.#phases.enter('Export');
    this.#info(NOTHING_TO_EXPORT);
    this.#phases.enter('Upload');
  }

  /** Opens the source and transfers what is missing. `expected` is the tree that is pushed, where it is known. */
  async run(expected: ImageTree | undefined, withoutStore: boolean): Promise<Exported> {
    this.#phases.enter('Export');
    const notice = (text: string) => this.#info(text);
    const source = await this.#found.open({ signal: this.#context.signal, withoutStore, debug: this.#debug, notice });
    const { kind, description } = source;
    this.#info(`Reading ${this.#found.name} from ${description}`);
    this.#phases.enter('Upload');
    try {
      const tree = source.kind === 'store' ? await this.#drainStore(source) : await this.#drain(source, expected);
      return { kind, description, tree };
    } finally {
      await source.close();
    }
  }

  async #drainStore(source: StoreSource): Promise<ImageTree> {
    const tree = selected(this.#context, source.tree);
    this.#transfer.know(tree);
    await this.#transfer.fromStore(source, blobsOf(tree));
    await this.#transfer.finished();
    return tree;
  }

  async #drain(source: StreamSource, expected: ImageTree | undefined): Promise<ImageTree> {
    const transfer = this.#transfer;
    const wanted = expected && new Map(blobsOf(expected).map((blob) => [blob.compressedAs ?? blob.key, blob]));
    await transfer.fromStream(source, {
      blobOf: (entry) => this.#blobOf(entry, wanted),
      isComplete: () => this.#isComplete(expected ?? source.tree()),
      // Which platforms an archive's layers belong to is in its documents, and those come late.
      hold: this.#context.request.platforms.length > 0 && expected === undefined,
    });
    const tree = expected ?? selected(this.#context, this.#treeOf(source));
    transfer.know(tree);
    const blobs = blobsOf(tree);
    const keys = new Set(blobs.map(({ key }) => key));
    await transfer.releaseHeld((key) => keys.has(key));
    // A legacy layer has no name until it was read.
    await transfer.finished();
    await transfer.locate(blobs);
    await transfer.finished();
    return tree;
  }

  /** The blob of the image that an entry of a stream is; undefined where only its plain bytes show it. */
  #blobOf(entry: StreamedBlob, wanted: ReadonlyMap<Digest, ImageBlob> | undefined): ImageBlob | 'unwanted' | undefined {
    const blob = blobOfEntry(entry);
    if (!blob) return undefined;
    const named = wanted?.get(blob.key);
    if (wanted && !named) return 'unwanted';
    if (named?.compressedAs !== undefined) return named;
    return !named && isRecompressible(entry, this.#context.request) ? undefined : blob;
  }

  /** Whether nothing more is needed from a stream: its tree is known, and every blob of it is taken or in memory. */
  #isComplete(tree: ImageTree | undefined): boolean {
    if (!tree) return false;
    const chosen = selected({ ...this.#context, report: () => {} }, tree);
    const documents = documentsInMemory(chosen);
    return this.#transfer.missingOf(chosen).every(({ key }) => documents.has(key));
  }

  #treeOf(source: StreamSource): ImageTree {
    const tree = source.tree();
    if (tree) return tree;
    const what = `${source.description} ended without the manifest or config of ${this.#found.imageId}`;
    throw new PushError('Export', what, {
      remedy: 'check that the image is complete: the same `save` into a file, and its `load`, must work',
    });
  }

  /**
   * The transfer has the complete image; where an engine's own store returned wrong bytes or none, `save` comes next.
   */
  async complete(once: Exported, expected: ImageTree | undefined): Promise<Transferred> {
    const first = await this.#readAgain(once, expected);
    const missing = this.#transfer.missingOf(first.tree);
    const isEngineStore = first.kind === 'store' && this.#found.engine !== undefined;
    if (missing.length === 0 || !isEngineStore) return this.#completed(first);
    const lacks = missing.map(({ key }) => {
      const cause = this.#transfer.whyUnreadable(key);
      const reason = cause === undefined ? 'it is not there' : explain(cause).message;
      return { cause, text: `${first.description} does not give ${key}: ${reason}` };
    });
    if (this.#context.request.export === 'store') {
      const { text, cause } = lacks[0]!;
      throw new PushError('Export', `export: store, but ${text}`, { cause, remedy: 'set export: auto or save' });
    }
    for (const { text } of lacks) this.#debug(`${text}; exporting it with save`);
    return this.#completed(await this.run(expected, true));
  }

  /**
   * What a full disk could not keep until every registry had it is read again from the source, as often as a request is
   * repeated: each time a registry had lost its upload session.
   */
  async #readAgain(exported: Exported, expected: ImageTree | undefined): Promise<Exported> {
    let last = exported;
    for (let left = this.#context.request.maxRetries; left > 0; left--) {
      const missing = this.#transfer.missingOf(last.tree);
      const short = missing.find(({ key }) => this.#transfer.whyUnreadable(key) instanceof SpoolShortError);
      if (!short) break;
      this.#info(`Reading it again: ${explain(this.#transfer.whyUnreadable(short.key)).message}`);
      last = await this.run(expected, false);
    }
    return last;
  }

  #completed({ tree, description }: Exported): Transferred {
    assertComplete(this.#transfer, tree);
    return transferred(this.#transfer, tree, description);
  }

  readonly #debug = (text: string): void => this.#context.report({ type: 'debug', text });

  #info(text: string): void {
    this.#context.report({ type: 'info', text });
  }
}

/** The phases of one transfer, each reported once and in order. */
class Phases {
  readonly #report: Report;
  #left: ('Export' | 'Upload')[] = ['Export', 'Upload'];

  constructor(report: Report) {
    this.#report = report;
  }

  enter(phase: 'Export' | 'Upload'): void {
    while (this.#left.includes(phase)) this.#report({ type: 'phase', phase: this.#left.shift()! });
  }
}

/** Every blob of a tree is in the registry; otherwise says which one neither has, and what to do. */
function assertComplete(transfer: Transfer, tree: ImageTree): void {
  const missing = transfer.missingOf(tree);
  const [first] = missing;
  if (!first) return;
  const reason = transfer.whyUnreadable(first.key);
  if (reason !== undefined) throw reason;
  const names = missing.map(({ key }) => key).join(', ');
  const what = tree.kind === 'composed' ? 'the image' : 'a manifest of the image';
  throw new PushError('Export', `${what} names ${names}, which neither the export nor the registry has`, {
    // https://github.com/moby/moby/issues/49473: `docker save` leaves out layers that the store shares or never pulled.
    remedy: 'pull or build the image again so that all of its layers are on this machine, then push it',
  });
}
