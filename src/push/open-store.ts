/**
 * Sends what a registry lacks out of a store that is open already and holds all of the image as it is sent: small pieces while the
 * registry is still being asked for the rest. Of a push of one small layer that saves a tenth.
 */

import type { ImageTree } from '../oci/image-tree.ts';
import type { Digest } from '../oci/types.ts';
import type { FoundImage, StoreSource } from '../source/source.ts';
import type { PushContext } from './context.ts';
import { documentsInMemory, type ImageBlob } from './image-blobs.ts';
import type { Transfer } from './transfer.ts';

/** Bytes of a layer that goes at once. Of larger ones the largest must go first, and milliseconds do not count. */
const SOON_GONE = 2 * 2 ** 20;

export const NOTHING_TO_EXPORT = 'Nothing to export: the registry and the cache have every layer';

export class OpenStoreTransfer {
  readonly #job: PushContext;
  readonly #name: string;
  readonly #transfer: Transfer;
  readonly #documents: ReadonlyMap<Digest, Buffer>;
  readonly #store: StoreSource;
  /** What is to be said of the store when it is read. */
  readonly #notices: readonly string[];
  readonly #sending: Promise<void>[] = [];
  /** What waits until it is known what else is missing. */
  readonly #large: ImageBlob[] = [];
  #begun = false;
  #read = false;

  private constructor(
    job: PushContext,
    name: string,
    transfer: Transfer,
    tree: ImageTree,
    store: StoreSource,
    notices: string[],
  ) {
    this.#job = job;
    this.#name = name;
    this.#transfer = transfer;
    this.#documents = documentsInMemory(tree);
    this.#store = store;
    this.#notices = notices;
  }

  /** Undefined where the store is not open, or a layer of it must be compressed. Whoever gets one calls `sent` or `close`. */
  static async of(
    job: PushContext,
    found: FoundImage,
    transfer: Transfer,
    tree: ImageTree,
    pieces: readonly ImageBlob[],
  ) {
    if (pieces.some(({ plain }) => plain)) return undefined;
    const notices: string[] = [];
    const debug = (text: string) => job.report({ type: 'debug', text });
    const notice = (text: string) => void notices.push(text);
    const store = await found.atHand?.({ signal: job.signal, debug, notice });
    return store && new OpenStoreTransfer(job, found.name, transfer, tree, store, notices);
  }

  /** A piece that some registry lacks. */
  missing(piece: ImageBlob): void {
    this.#begin();
    if (this.#documents.has(piece.key)) this.#transfer.fromMemory([piece], this.#documents);
    else if ((piece.size ?? 0) > SOON_GONE) this.#large.push(piece);
    else this.#send([piece]);
  }

  /** Sends the rest, and closes the store. Gives what all was sent out of, if anything was missing. Throws when no target is left. */
  async sent(): Promise<string | undefined> {
    if (this.#large.length > 0) this.#send(this.#large);
    const description = await this.close();
    if (description !== undefined || !this.#begun) return description;
    this.#job.report({ type: 'info', text: NOTHING_TO_EXPORT });
    return 'nothing';
  }

  /** Waits for what was begun, and closes the store: what has not begun stays here. Gives what was read. */
  async close(): Promise<string | undefined> {
    const ended = await Promise.allSettled(this.#sending);
    await this.#store.close();
    const failed = ended.find((one) => one.status === 'rejected');
    if (failed) throw failed.reason;
    return this.#read ? this.#store.description : undefined;
  }

  #send(pieces: readonly ImageBlob[]): void {
    this.#tellReading();
    const sending = this.#transfer.fromStore(this.#store, pieces);
    // An answer may still come when the push has failed, and nobody waits any more.
    sending.catch(() => {});
    this.#sending.push(sending);
  }

  #begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    for (const phase of ['Export', 'Upload'] as const) this.#job.report({ type: 'phase', phase });
  }

  #tellReading(): void {
    if (this.#read) return;
    this.#read = true;
    for (const text of [...this.#notices, `Reading ${this.#name} from ${this.#store.description}`]) {
      this.#job.report({ type: 'info', text });
    }
  }
}
