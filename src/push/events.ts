/**
 * What a push reports while it runs (the action writes log lines of it, the terminal bars), and the statistics of it.
 */

import { now } from '../common/async.ts';
import type { Digest } from '../oci/types.ts';
import type { RegistryEvent } from '../registry/host/context.ts';

/** The phases of a push, in order; each is one group of the action's log. */
type Phase = 'Resolve' | 'Export' | 'Upload' | 'Manifest';

/** What became of a blob at a registry. */
export type BlobFate = 'uploaded' | 'exists' | 'mounted';

export type PushEvent =
  /** Secrets, retries, waits and limits of a registry. */
  | RegistryEvent
  | { readonly type: 'phase'; readonly phase: Phase }
  | { readonly type: 'info' | 'notice' | 'warning' | 'debug'; readonly text: string }
  /** A blob begins to move to a registry. `label` names it until its `blob-end`. */
  | { readonly type: 'blob-start'; readonly label: string; readonly host: string; readonly size: number | undefined }
  /**
   * How far a blob has come: the bytes handed to the network, and of them those that the registry has confirmed. Both
   * go back when bytes must be sent again. `size` as soon as it is known.
   */
  | {
      readonly type: 'blob-progress';
      readonly label: string;
      readonly host: string;
      readonly sent: number;
      readonly confirmed: number;
      readonly size: number | undefined;
    }
  | {
      readonly type: 'blob-end';
      readonly label: string;
      readonly host: string;
      readonly digest: Digest;
      readonly size: number;
      readonly fate: BlobFate;
      readonly seconds: number;
      readonly retries: number;
      readonly fromCache: boolean;
    }
  /** Plain bytes of layers read and compressed bytes made so far, in all. */
  | { readonly type: 'made'; readonly read: number; readonly written: number };

export type Report = (event: PushEvent) => void;

// The statistics of one push: what happened to each blob, how many bytes moved, and where the time went.

/** One blob at one registry, as the `metadata` output has it. */
export interface BlobRecord {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  readonly mediaType: string;
  /** The layer's diffID, where the push knows it. */
  readonly diffId?: Digest;
  readonly registry: string;
  readonly what: BlobFate;
  readonly fromCache: boolean;
  readonly bytesSent: number;
  readonly bytesResent: number;
  readonly retries: number;
  readonly seconds: number;
}

/**
 * Seconds by phase. The last four are summed over layers, which overlap: they show what bounds a push, not how long it
 * took.
 */
export interface Seconds {
  total: number;
  resolve: number;
  transfer: number;
  manifest: number;
  waitingForExport: number;
  compressing: number;
  heldBack: number;
  sending: number;
  waitingForRegistry: number;
}

function addedUp(before: BlobRecord, now: BlobRecord): BlobRecord {
  return {
    ...now,
    what: before.what === 'uploaded' ? 'uploaded' : now.what,
    fromCache: before.fromCache || now.fromCache,
    bytesSent: before.bytesSent + now.bytesSent,
    bytesResent: before.bytesResent + now.bytesResent,
    retries: before.retries + now.retries,
    seconds: before.seconds + now.seconds,
  };
}

export class PushStats {
  readonly seconds: Seconds = {
    total: 0,
    resolve: 0,
    transfer: 0,
    manifest: 0,
    waitingForExport: 0,
    compressing: 0,
    heldBack: 0,
    sending: 0,
    waitingForRegistry: 0,
  };
  readonly #blobs = new Map<string, BlobRecord>();
  readonly #began = now();

  /**
   * Enters a blob. What was sent stays sent: a later entry (sent again after all, or into a second repository) is added
   * to it.
   */
  enter(record: BlobRecord): void {
    const key = `${record.registry} ${record.digest}`;
    const before = this.#blobs.get(key);
    this.#blobs.set(key, before === undefined ? record : addedUp(before, record));
  }

  get blobs(): readonly BlobRecord[] {
    return [...this.#blobs.values()];
  }

  /** Runs a phase and adds the seconds that it took. */
  async time<T>(phase: 'resolve' | 'transfer' | 'manifest', work: () => Promise<T>): Promise<T> {
    const start = now();
    try {
      return await work();
    } finally {
      this.seconds[phase] += (now() - start) / 1000;
    }
  }

  /** Adds what a layer's making waited for (ms), layer by layer. */
  addMaking(times: { waitingForInputMs: number; compressingMs: number; heldBackMs: number }): void {
    this.seconds.waitingForExport += times.waitingForInputMs / 1000;
    this.seconds.compressing += times.compressingMs / 1000;
    this.seconds.heldBack += times.heldBackMs / 1000;
  }

  /** Adds what an upload spent sending and waiting for answers (ms). */
  addSending(times: { sendingMs: number; waitedMs: number }): void {
    this.seconds.sending += times.sendingMs / 1000;
    this.seconds.waitingForRegistry += times.waitedMs / 1000;
  }

  /** The seconds of all phases, rounded to milliseconds. */
  close(): Seconds {
    this.seconds.total = (now() - this.#began) / 1000;
    return Object.fromEntries(
      Object.entries(this.seconds).map(([name, value]) => [name, Math.round(value * 1000) / 1000]),
    ) as unknown as Seconds;
  }
}
