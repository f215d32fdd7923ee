/**
 * A registry with the repositories that an image goes to there: a blob is sent to it once, and mounted from then on.
 */

import type { ReadableBlob, SessionNote } from '../blob/blob.ts';
import type { UploadSessions } from '../cache/upload-sessions.ts';
import { now } from '../common/async.ts';
import type { Digest } from '../oci/types.ts';
import type { Registry } from '../registry/registry.ts';
import type { BlobOutcome, UploadOptions } from '../registry/upload/blob-upload.ts';
import type { BlobFate, PushStats, Report } from './events.ts';
import { type KnownLayers, mountSources } from './known-layers.ts';
import { SMALL_BLOB, TINY_BLOB, type UploadSlots } from './slots.ts';
import type { TargetRepository } from './target-repository.ts';

/** One blob's upload to one registry: its bytes, and what the log and the statistics say of it. */
export interface BlobUpload {
  readonly body: ReadableBlob;
  readonly label: string;
  readonly mediaType: string;
  readonly diffId: Digest | undefined;
  readonly fromCache: boolean;
  /** What the blob is called in notes of upload sessions: its digest, or how its bytes are made; undefined for none. */
  readonly sessionKey: string | undefined;
  /** A repository of this registry that is known to have the blob. */
  readonly mountFrom?: string | undefined;
  /** Whether the blob is likely to be there: no session is opened before the registry has been asked. */
  readonly isLikelyThere: boolean;
  /**
   * Of an image whose lowest layer is sent: whether this is that one, or one above it. Images share layers from the base
   * up, so what a registry says of the lowest tells of those above.
   */
  readonly place: 'lowest' | 'above' | undefined;
  /** Whether it is sent there without believing that it is there (the registry denied it when the manifest came). */
  isUploadedAgain(repository: TargetRepository): boolean;
  /** Bytes that this registry has confirmed. */
  onConfirmed(bytes: number): void;
}

/** A blob that is there: what that took, and its size (bytes) where the registry reported it. */
interface Presence {
  readonly fate: BlobFate;
  readonly size?: number;
}

export class TargetRegistry {
  readonly host: string;
  readonly registry: Registry;
  readonly repositories: readonly TargetRepository[];
  readonly #slots: UploadSlots;
  readonly #report: Report;
  readonly #stats: PushStats;
  readonly #sessions: UploadSessions | undefined;
  /** Sessions of killed pushes, looked for before their blob is uploaded. */
  readonly #taken = new Map<string, Promise<SessionNote | undefined>>();

  constructor(options: {
    registry: Registry;
    repositories: readonly TargetRepository[];
    slots: UploadSlots;
    report: Report;
    stats: PushStats;
    sessions?: UploadSessions | undefined;
  }) {
    this.host = options.registry.host;
    this.registry = options.registry;
    this.repositories = options.repositories;
    this.#slots = options.slots;
    this.#report = options.report;
    this.#stats = options.stats;
    this.#sessions = options.sessions;
  }

  /** The repositories that have not failed. */
  get active(): readonly TargetRepository[] {
    return this.repositories.filter(({ isActive }) => isActive);
  }

  get isActive(): boolean {
    return this.active.length > 0;
  }

  get failure(): unknown {
    return this.repositories.find(({ isActive }) => !isActive)?.failure;
  }

  /** Fails every repository that has not confirmed all of its tags. */
  fail(reason: unknown): void {
    for (const repository of this.active) if (repository.unpushed.length > 0) repository.fail(reason);
  }

  /** Whether an active repository may get a blob by a mount that was not tried yet. */
  canMount(digest: Digest, known: Pick<KnownLayers, 'repositories'>): boolean {
    const from = known.repositories(this.host, digest);
    return this.active.some((target) =>
      from.some((name) => name !== target.repository.name && !target.tried(digest, name)),
    );
  }

  /**
   * Whether every active repository has the blob without a byte being sent, by HEAD or by a mount from `mountFrom`;
   * undefined when it must be sent. A repository that can't be asked has failed.
   */
  async existsOrMount(digest: Digest, mountFrom: readonly string[], size?: number): Promise<Presence | undefined> {
    let presence: Presence = { fate: 'exists' };
    let isMissing = false;
    const from = [...mountFrom];
    for (const target of this.active) {
      const found = await this.#existsOrMountIn(target, digest, from, size).catch((error) => target.fail(error));
      if (!target.isActive) continue;
      if (found) from.unshift(target.repository.name);
      if (found?.fate === 'mounted') presence = { ...presence, fate: 'mounted' };
      if (found?.size !== undefined) presence = { size: found.size, fate: presence.fate };
      isMissing ||= !found;
    }
    return isMissing || !this.isActive ? undefined : presence;
  }

  async #existsOrMountIn(
    target: TargetRepository,
    digest: Digest,
    from: readonly string[],
    size: number | undefined,
  ): Promise<Presence | undefined> {
    const { repository, signal } = target;
    if (target.holds(digest)) return { fate: 'exists' };
    const head = await target.headBlob(digest);
    if (head.state === 'present')
      return head.size === undefined ? { fate: 'exists' } : { fate: 'exists', size: head.size };
    for (const source of mountSources([...new Set(from)], repository.name, size)) {
      if (target.tried(digest, source)) continue;
      target.noteTried(digest, source);
      if ((await repository.mountBlob(digest, source, signal)) === 'mounted') {
        target.noteReceived();
        return { fate: 'mounted' };
      }
    }
    if (head.state === 'absent') target.noteAbsent(digest);
    return undefined;
  }

  /** Keeps a place for small blobs that may still come, until the returned function is called. */
  expectSmall(): () => void {
    return this.#slots.expectSmall();
  }

  /**
   * Opens the upload of a blob that the registry has just denied, while its bytes are looked for: else what other blobs
   * send next takes the connections, and this one's upload begins a round trip later. For small blobs, as long as they
   * would be sent at once.
   */
  async openAhead(digest: Digest, size: number, label: string): Promise<void> {
    const [target] = this.active;
    if (!target?.lacks(digest, size) || !this.#slots.hasPlace(size)) return;
    if (await this.#sessionLeft(target.repository.name, digest)) return;
    target.repository.openAhead(digest, { label, signal: target.signal });
  }

  /** Deletes what `openAhead` has opened for a blob whose bytes are not there. */
  closeAhead(digest: Digest): void {
    for (const { repository } of this.repositories) repository.closeAhead(digest);
  }

  /**
   * Brings a blob into every active repository: sent to the first, mounted (else sent) into the others. Never rejects:
   * a repository that does not take it has failed. At most `concurrency` uploads at once.
   */
  async upload(upload: BlobUpload): Promise<void> {
    await this.#slots.run(await sizeKnown(upload.body), async () => {
      let source: string | undefined;
      for (const target of this.active) {
        try {
          await this.#uploadTo(target, upload, source);
          source ??= target.repository.name;
        } catch (error) {
          // Bytes that can't be made are no fault of this registry: another source may have them.
          if (await isUnreadable(upload.body)) return;
          target.fail(error);
        }
      }
    });
  }

  async #uploadTo(target: TargetRepository, upload: BlobUpload, source: string | undefined): Promise<void> {
    const { body, label } = upload;
    const { repository, signal } = target;
    const host = this.host;
    const began = now();
    const isAbsent = body.identity !== undefined && target.lacks(body.identity.digest, body.identity.size);
    if (body.identity) target.sending(body.identity.digest);
    if (upload.place === 'lowest' && isAbsent) target.askingLowest(Promise.resolve(false));
    this.#report({ type: 'blob-start', label, host, size: body.identity?.size });
    const mountFrom = source ?? upload.mountFrom;
    let confirmed = 0;
    let isMoving = false;
    const progress = (sent: number) =>
      this.#report({ type: 'blob-progress', label, host, sent, confirmed, size: body.identity?.size });
    const outcome = await repository.uploadBlob(body, {
      signal,
      label,
      mayExist: !isAbsent,
      // Else it is hardly ever there: the plan has asked for it, or its digest comes with its last byte.
      openWhileAsking: !upload.isLikelyThere,
      ...(upload.place === 'lowest' ? { onAsking: (exists) => target.askingLowest(exists) } : {}),
      // Asking for a tiny one is a request for the sake of a few packets.
      ...(upload.place === 'above'
        ? { worthAsking: (size) => (size <= TINY_BLOB ? () => target.mayHaveAbove() : undefined) }
        : {}),
      uploadAgain: source === undefined && upload.isUploadedAgain(target),
      ...(mountFrom === undefined || mountFrom === repository.name ? {} : { mountFrom }),
      ...(await this.#session(upload, repository.name)),
      onSent: (end) => {
        isMoving = true;
        progress(end);
      },
      onProgress: (bytes) => {
        confirmed = bytes;
        upload.onConfirmed(bytes);
        // A blob that is there or was mounted is confirmed without having moved.
        if (isMoving) progress(bytes);
      },
    });
    if (outcome.what !== 'exists') target.noteReceived();
    const seconds = (now() - began) / 1000;
    const { digest, size } = outcome.identity;
    const { retries } = outcome;
    const { fromCache } = upload;
    this.#report({ type: 'blob-end', label, host, digest, size, fate: outcome.what, seconds, retries, fromCache });
    this.#count(upload, outcome, seconds, source === undefined);
  }

  /** The session of a killed push that goes on, and notes of this one's for the next. */
  async #session({ sessionKey }: BlobUpload, repository: string): Promise<Pick<UploadOptions, 'resume' | 'onSession'>> {
    const sessions = this.#sessions;
    if (!sessions || sessionKey === undefined) return {};
    const resume = await this.#sessionLeft(repository, sessionKey);
    this.#taken.delete(`${repository} ${sessionKey}`);
    const name = `${this.host}/${repository}`;
    return { resume, onSession: (session) => sessions.note(name, sessionKey, session) };
  }

  /** The session that a killed push has left for a blob; looked for once, until it is used. */
  #sessionLeft(repository: string, sessionKey: string): Promise<SessionNote | undefined> {
    const key = `${repository} ${sessionKey}`;
    const known = this.#taken.get(key);
    if (known || !this.#sessions) return known ?? Promise.resolve(undefined);
    const taken = this.#sessions.take(`${this.host}/${repository}`, sessionKey);
    this.#taken.set(key, taken);
    return taken;
  }

  #count(upload: BlobUpload, outcome: BlobOutcome, seconds: number, first: boolean): void {
    this.#stats.addSending(outcome);
    // A blob has one record a registry: what the first repository took. The mounts beside it cost nothing.
    if (!first && outcome.bytesSent === 0) return;
    this.#stats.enter({
      ...outcome.identity,
      mediaType: upload.mediaType,
      ...(upload.diffId === undefined ? {} : { diffId: upload.diffId }),
      registry: this.host,
      what: outcome.what,
      fromCache: upload.fromCache,
      bytesSent: outcome.bytesSent,
      bytesResent: outcome.bytesResent,
      retries: outcome.retries,
      seconds: Math.round(seconds * 1000) / 1000,
    });
  }
}

/**
 * The size of a blob, as far as it tells whether the blob is small: one that is being made is waited for until it is
 * complete or too large for that, which is before its first chunk is sent. Undefined for a large one whose end is not
 * known. Never rejects.
 */
async function sizeKnown(body: ReadableBlob): Promise<number | undefined> {
  if (body.identity) return body.identity.size;
  // A blob that can't be made is reported by its upload.
  const { ended, available } = await body.reach(SMALL_BLOB + 1).catch(() => ({ ended: false, available: 0 }));
  return ended ? available : undefined;
}

/** Whether the making of a blob has failed, as far as is known now. */
const isUnreadable = (body: ReadableBlob): Promise<boolean> =>
  Promise.race([
    body.completed().then(
      () => false,
      () => true,
    ),
    new Promise<boolean>((resolve) => setImmediate(resolve, false)),
  ]);
