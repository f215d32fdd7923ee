/** One registry with the repositories that the image goes to there: a blob is sent to it once, and mounted from then on. */

import pLimit, { type LimitFunction } from 'p-limit';
import type { ReadableBlob } from '../blob/blob.ts';
import { now } from '../common/async.ts';
import type { Reference } from '../oci/reference.ts';
import type { Digest } from '../oci/types.ts';
import { resolveCredentials } from '../registry/auth/credentials.ts';
import { Registry } from '../registry/registry.ts';
import type { BlobOutcome } from '../registry/upload/blob-upload.ts';
import type { BlobFate, Report } from './events.ts';
import { mountSources } from './known-layers.ts';
import type { RequestOptions } from './options.ts';
import type { PushStats } from './stats.ts';
import { TargetRepository } from './target-repository.ts';

/** What a delivery is about, for the log and the books. */
export interface BlobUpload {
  readonly body: ReadableBlob;
  readonly label: string;
  readonly mediaType: string;
  readonly diffId: Digest | undefined;
  readonly fromCache: boolean;
  /** A repository of this registry that is known to have the blob. */
  readonly mountFrom?: string | undefined;
  /** Where it is sent without believing that it is there (the registry denied it when the manifest came). */
  isForced(destination: TargetRepository): boolean;
  /** Bytes that this registry has confirmed. */
  onConfirmed(bytes: number): void;
}

/** A blob that is there: what that took, and its size (bytes) where the registry told it. */
export interface Presence {
  readonly fate: BlobFate;
  readonly size?: number;
}

export class TargetRegistry {
  readonly host: string;
  readonly registry: Registry;
  readonly repositories: readonly TargetRepository[];
  readonly #limit: LimitFunction;
  readonly #report: Report;
  readonly #ledger: PushStats;

  constructor(options: {
    registry: Registry;
    destinations: readonly TargetRepository[];
    concurrency: number;
    report: Report;
    ledger: PushStats;
  }) {
    this.host = options.registry.host;
    this.registry = options.registry;
    this.repositories = options.destinations;
    this.#limit = pLimit(options.concurrency);
    this.#report = options.report;
    this.#ledger = options.ledger;
  }

  /** The repositories that have not failed. */
  get active(): readonly TargetRepository[] {
    return this.repositories.filter(({ isActive: alive }) => alive);
  }

  get isActive(): boolean {
    return this.active.length > 0;
  }

  get failure(): unknown {
    return this.repositories.find(({ isActive: alive }) => !alive)?.failure;
  }

  /** Gives every repository up that is not through. */
  fail(reason: unknown): void {
    for (const destination of this.active) if (destination.unpushed.length > 0) destination.fail(reason);
  }

  /**
   * Whether every living repository has the blob without a byte being sent, by HEAD or by a mount from `mountFrom`;
   * undefined when it must be sent. A repository that can't be asked has failed.
   */
  async existsOrMount(digest: Digest, mountFrom: readonly string[], size?: number): Promise<Presence | undefined> {
    let presence: Presence = { fate: 'exists' };
    let isMissing = false;
    const from = [...mountFrom];
    for (const destination of this.active) {
      const found = await this.#hasOne(destination, digest, from, size).catch((error) => destination.fail(error));
      if (!destination.isActive) continue;
      if (found) from.unshift(destination.repository.name);
      if (found?.fate === 'mounted') presence = { ...presence, fate: 'mounted' };
      if (found?.size !== undefined) presence = { size: found.size, fate: presence.fate };
      isMissing ||= !found;
    }
    return isMissing || !this.isActive ? undefined : presence;
  }

  async #hasOne(
    destination: TargetRepository,
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
  async deliver(parcel: BlobUpload): Promise<void> {
    await this.#limit(async () => {
      let source: string | undefined;
      for (const destination of this.active) {
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

  async #send(destination: TargetRepository, parcel: BlobUpload, source: string | undefined): Promise<void> {
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

  #enter(parcel: BlobUpload, outcome: BlobOutcome, seconds: number, first: boolean): void {
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
const isSpoiled = (body: ReadableBlob): Promise<boolean> =>
  Promise.race([
    body.completed().then(
      () => false,
      () => true,
    ),
    new Promise<boolean>((resolve) => setImmediate(resolve, false)),
  ]);

/** Opens the targets: one for each registry, with its repositories and their tags. */

interface Context {
  readonly report: Report;
  readonly signal: AbortSignal;
  readonly ledger: PushStats;
}

/** One target a registry, in the order of the request's destinations. Nothing is sent yet. Throws for unusable credentials. */
export async function openRegistries(request: RequestOptions, context: Context): Promise<TargetRegistry[]> {
  const byHost = Map.groupBy(request.destinations, ({ apiHost }) => apiHost);
  return Promise.all([...byHost].map(([host, references]) => openTarget(request, host, references, context)));
}

async function openTarget(
  request: RequestOptions,
  host: string,
  references: readonly Reference[],
  context: Context,
): Promise<TargetRegistry> {
  const { credentials, insecure, ca, tlsVerify, chunkSize, maxRetries, maxWait, env, concurrency } = request;
  const byRepository = Map.groupBy(references, ({ repository }) => repository);
  const found = await resolveCredentials({
    registry: host,
    // A secret has one owner: the other registries' credentials are found in files.
    ...(host === request.destinations[0]?.apiHost ? credentials : undefined),
    env,
    repositories: [...byRepository.keys()],
    onSecret: (value) => context.report({ type: 'secret', value }),
  });
  const registry = new Registry({
    host,
    insecure,
    ...(ca === undefined ? {} : { ca }),
    ...(found === undefined ? {} : { credentials: found }),
    env,
    chunkSize,
    concurrency,
    maxRetries,
    maxWait,
    tlsVerify,
    onEvent: (event) => context.report(event),
  });
  const destinations = [...byRepository].map(
    ([name, group]) => new TargetRepository(registry.repository(name), group, context.signal),
  );
  return new TargetRegistry({ ...context, registry, destinations, concurrency });
}

/** Ends the open upload sessions and the connections of every target. */
export async function closeRegistries(targets: readonly TargetRegistry[]): Promise<void> {
  await Promise.all(targets.map(({ registry }) => registry.close()));
}
