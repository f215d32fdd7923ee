/** One registry with the repositories that the image goes to there: a blob is sent to it once, and mounted from then on. */
import pLimit, { type LimitFunction } from 'p-limit';
import { now } from '../clock.ts';
import type { Digest } from '../image/oci.ts';
import type { BlobBody } from '../registry/body.ts';
import type { Registry } from '../registry/registry.ts';
import type { BlobOutcome } from '../registry/repository.ts';
import type { Destination } from './destination.ts';
import type { BlobFate, Report } from './events.ts';
import type { Ledger } from './ledger.ts';
import { mountSources } from './mount.ts';

/** What a delivery is about, for the log and the books. */
export interface Parcel {
  readonly body: BlobBody;
  readonly label: string;
  readonly mediaType: string;
  readonly diffId: Digest | undefined;
  readonly fromCache: boolean;
  /** A repository of this registry that is known to have the blob. */
  readonly mountFrom?: string | undefined;
  /** Where it is sent without believing that it is there (the registry denied it when the manifest came). */
  isForced(destination: Destination): boolean;
  /** Bytes that this registry has confirmed. */
  onConfirmed(bytes: number): void;
}

/** A blob that is there: what that took, and its size (bytes) where the registry told it. */
export interface Presence {
  readonly fate: BlobFate;
  readonly size?: number;
}

export class Target {
  readonly host: string;
  readonly registry: Registry;
  readonly destinations: readonly Destination[];
  readonly #limit: LimitFunction;
  readonly #report: Report;
  readonly #ledger: Ledger;

  constructor(options: {
    registry: Registry;
    destinations: readonly Destination[];
    concurrency: number;
    report: Report;
    ledger: Ledger;
  }) {
    this.host = options.registry.host;
    this.registry = options.registry;
    this.destinations = options.destinations;
    this.#limit = pLimit(options.concurrency);
    this.#report = options.report;
    this.#ledger = options.ledger;
  }

  /** The repositories that have not failed. */
  get living(): readonly Destination[] {
    return this.destinations.filter(({ alive }) => alive);
  }

  get alive(): boolean {
    return this.living.length > 0;
  }

  get failure(): unknown {
    return this.destinations.find(({ alive }) => !alive)?.failure;
  }

  /** Gives every repository up that is not through. */
  fail(reason: unknown): void {
    for (const destination of this.living) if (destination.unpushed.length > 0) destination.fail(reason);
  }

  /**
   * Whether every living repository has the blob without a byte being sent, by HEAD or by a mount from `mountFrom`;
   * undefined when it must be sent. A repository that can't be asked has failed.
   */
  async has(digest: Digest, mountFrom: readonly string[], size?: number): Promise<Presence | undefined> {
    let presence: Presence = { fate: 'exists' };
    let isMissing = false;
    const from = [...mountFrom];
    for (const destination of this.living) {
      const found = await this.#hasOne(destination, digest, from, size).catch((error) => destination.fail(error));
      if (!destination.alive) continue;
      if (found) from.unshift(destination.repository.name);
      if (found?.fate === 'mounted') presence = { ...presence, fate: 'mounted' };
      if (found?.size !== undefined) presence = { size: found.size, fate: presence.fate };
      isMissing ||= !found;
    }
    return isMissing || !this.alive ? undefined : presence;
  }

  async #hasOne(
    destination: Destination,
    digest: Digest,
    from: readonly string[],
    size: number | undefined,
  ): Promise<Presence | undefined> {
    const { repository, signal } = destination;
    const head = await repository.headBlob(digest, signal);
    if (head.state === 'present')
      return head.size === undefined ? { fate: 'exists' } : { fate: 'exists', size: head.size };
    for (const source of mountSources([...new Set(from)], repository.name, size)) {
      if ((await repository.mountBlob(digest, source, signal)) === 'mounted') return { fate: 'mounted' };
    }
    if (head.state === 'absent') destination.noteAbsent(digest);
    return undefined;
  }

  /**
   * Brings a blob into every living repository: sent to the first, mounted (else sent) into the others. Never rejects: a
   * repository that does not take it has failed. At most `concurrency` deliveries at once.
   */
  async deliver(parcel: Parcel): Promise<void> {
    await this.#limit(async () => {
      let source: string | undefined;
      for (const destination of this.living) {
        try {
          await this.#send(destination, parcel, source);
          source ??= destination.repository.name;
        } catch (error) {
          // Bytes that can't be made are no fault of this registry: another source may give them.
          if (await isSpoiled(parcel.body)) return;
          destination.fail(error);
        }
      }
    });
  }

  async #send(destination: Destination, parcel: Parcel, source: string | undefined): Promise<void> {
    const { body, label } = parcel;
    const { repository, signal } = destination;
    const host = this.host;
    const began = now();
    const isAbsent = body.identity !== undefined && destination.lacks(body.identity.digest);
    if (body.identity) destination.sending(body.identity.digest);
    this.#report({ type: 'blob-start', label, host, size: body.identity?.size });
    const mountFrom = source ?? parcel.mountFrom;
    let confirmed = 0;
    let isMoving = false;
    const progress = (sent: number) =>
      this.#report({ type: 'blob-progress', label, host, sent, confirmed, size: body.identity?.size });
    const outcome = await repository.uploadBlob(body, {
      signal,
      label,
      mayExist: !isAbsent,
      force: source === undefined && parcel.isForced(destination),
      ...(mountFrom === undefined || mountFrom === repository.name ? {} : { mountFrom }),
      onSent: (end) => {
        isMoving = true;
        progress(end);
      },
      onProgress: (bytes) => {
        confirmed = bytes;
        parcel.onConfirmed(bytes);
        // A blob that is there or was mounted is confirmed without having moved.
        if (isMoving) progress(bytes);
      },
    });
    const seconds = (now() - began) / 1000;
    const { digest, size } = outcome.identity;
    const { retries } = outcome;
    const { fromCache } = parcel;
    this.#report({ type: 'blob-end', label, host, digest, size, fate: outcome.what, seconds, retries, fromCache });
    this.#enter(parcel, outcome, seconds, source === undefined);
  }

  #enter(parcel: Parcel, outcome: BlobOutcome, seconds: number, first: boolean): void {
    this.#ledger.addSending(outcome);
    // A blob is one line of the books: what the first repository took. The mounts beside it cost nothing.
    if (!first && outcome.bytesSent === 0) return;
    this.#ledger.enter({
      ...outcome.identity,
      mediaType: parcel.mediaType,
      ...(parcel.diffId === undefined ? {} : { diffId: parcel.diffId }),
      registry: this.host,
      what: outcome.what,
      fromCache: parcel.fromCache,
      bytesSent: outcome.bytesSent,
      bytesResent: outcome.bytesResent,
      retries: outcome.retries,
      seconds: Math.round(seconds * 1000) / 1000,
    });
  }
}

/** Whether the making of a blob has failed, as far as is known now. */
const isSpoiled = (body: BlobBody): Promise<boolean> =>
  Promise.race([
    body.whole().then(
      () => false,
      () => true,
    ),
    new Promise<boolean>((resolve) => setImmediate(resolve, false)),
  ]);
