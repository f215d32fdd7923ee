/** One destination registry with the repositories and tags that the image goes to. Fails alone: the others go on. */
import pLimit, { type LimitFunction } from 'p-limit';
import type { Digest } from '../image/oci.ts';
import type { Reference } from '../image/reference.ts';
import type { BlobBody } from '../registry/body.ts';
import type { Registry } from '../registry/registry.ts';
import type { BlobOutcome, Repository } from '../registry/repository.ts';
import type { BlobFate, Report } from './events.ts';
import type { Ledger } from './ledger.ts';

export interface TargetRepository {
  readonly repository: Repository;
  readonly references: readonly Reference[];
}

/** What a delivery is about, for the log and the books. */
export interface Parcel {
  readonly body: BlobBody;
  readonly label: string;
  readonly mediaType: string;
  readonly diffId: Digest | undefined;
  readonly fromCache: boolean;
  /** A repository of this registry that is known to have the blob. */
  readonly mountFrom?: string | undefined;
  /** Send it without believing that it is there (the registry denied it when the manifest came). */
  readonly force?: boolean;
  /** Bytes that this registry has confirmed. */
  onConfirmed(bytes: number): void;
}

export class Target {
  readonly host: string;
  readonly registry: Registry;
  readonly repositories: readonly TargetRepository[];
  readonly #limit: LimitFunction;
  readonly #report: Report;
  readonly #ledger: Ledger;
  readonly #ended = new AbortController();
  /** The `repository:tag` names that the registry has confirmed. */
  readonly committed = new Set<string>();
  readonly #signal: AbortSignal;
  #failure: unknown;

  constructor(options: {
    registry: Registry;
    host: string;
    repositories: readonly TargetRepository[];
    concurrency: number;
    report: Report;
    ledger: Ledger;
    signal: AbortSignal;
  }) {
    this.host = options.host;
    this.registry = options.registry;
    this.repositories = options.repositories;
    this.#limit = pLimit(options.concurrency);
    this.#report = options.report;
    this.#ledger = options.ledger;
    this.#signal = AbortSignal.any([options.signal, this.#ended.signal]);
  }

  /** Aborted when the push is cancelled or this target has failed. */
  get signal(): AbortSignal {
    return this.#signal;
  }

  get alive(): boolean {
    return this.#failure === undefined;
  }

  get failure(): unknown {
    return this.#failure;
  }

  /** Gives this registry up; its requests under way are ended. The first reason counts. */
  fail(reason: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.#ended.abort(reason);
  }

  /** The engine has pushed what this push could not. */
  recover(): void {
    this.#failure = undefined;
  }

  /**
   * Whether every repository has the blob without a byte being sent, by HEAD or by a mount from `mountFrom`.
   * Gives what it took and the blob's size (bytes) where the registry told it; undefined when it must be sent.
   */
  async has(digest: Digest, mountFrom: readonly string[]): Promise<{ fate: BlobFate; size?: number } | undefined> {
    let fate: BlobFate = 'exists';
    let size: number | undefined;
    for (const { repository } of this.repositories) {
      const head = await repository.headBlob(digest, this.#signal);
      if (head.state === 'present') {
        size ??= head.size;
        continue;
      }
      if (!(await this.#mount(repository, digest, mountFrom))) return undefined;
      fate = 'mounted';
    }
    return size === undefined ? { fate } : { fate, size };
  }

  async #mount(repository: Repository, digest: Digest, from: readonly string[]): Promise<boolean> {
    for (const source of from.filter((name) => name !== repository.name).slice(0, MOUNT_TRIES)) {
      if ((await repository.mountBlob(digest, source, this.#signal)) === 'mounted') return true;
    }
    return false;
  }

  /**
   * Brings a blob into every repository: sent to the first, mounted (else sent) into the others. Never rejects: a
   * failure fails this target. At most `concurrency` deliveries at once.
   */
  async deliver(parcel: Parcel): Promise<void> {
    await this.#limit(async () => {
      if (!this.alive) return;
      try {
        let source: string | undefined;
        for (const { repository } of this.repositories) {
          await this.#send(repository, parcel, source);
          source ??= repository.name;
        }
      } catch (error) {
        // Bytes that can't be made are no fault of this registry: another source may give them.
        if (!(await isSpoiled(parcel.body))) this.fail(error);
      }
    });
  }

  async #send(repository: Repository, parcel: Parcel, source: string | undefined): Promise<void> {
    const { body, label } = parcel;
    const host = this.host;
    const began = performance.now();
    this.#report({ type: 'blob-start', label, host, size: body.identity?.size });
    const mountFrom = source ?? parcel.mountFrom;
    const outcome = await repository.uploadBlob(body, {
      signal: this.#signal,
      label,
      mayExist: true,
      force: parcel.force === true && source === undefined,
      ...(mountFrom === undefined ? {} : { mountFrom }),
      onProgress: (confirmed) => {
        parcel.onConfirmed(confirmed);
        this.#report({ type: 'blob-progress', label, host, confirmed, size: body.identity?.size });
      },
    });
    const seconds = (performance.now() - began) / 1000;
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

/** A refused mount is one round trip; a few likely repositories are worth it, a long list is not. moby tries at most 4. */
const MOUNT_TRIES = 3;
