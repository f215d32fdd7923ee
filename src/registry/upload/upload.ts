/** Everything that the steps of one blob's upload share, and the small moves that several of them make. */

import type { BlobIdentity, ByteRange, Reach, ReadableBlob } from '../../blob/blob.ts';
import { untilAborted } from '../../common/async.ts';
import type { HostCapabilities } from '../host/capabilities.ts';
import { answerOrTrouble, failedTries, gaveUp, type HostContext, pause } from '../host/context.ts';
import { UploadMetrics } from '../host/scheduler.ts';
import { RegistryError } from '../http/error.ts';
import type { UploadError } from '../http/upload-error.ts';
import { RetryBudget } from './retry-budget.ts';
import type { Session } from './session.ts';

export interface UploadOptions {
  readonly signal: AbortSignal;
  /** A repository of the same registry that is thought to have the blob. */
  readonly mountFrom?: string | undefined;
  /** Default true. False: the caller knows that the blob is absent, so it is not asked for at first. */
  readonly mayExist?: boolean | undefined;
  /** T9: the registry's HEAD is not believed. */
  readonly force?: boolean | undefined;
  /** The bytes that the registry has confirmed; goes back to 0 when a session is lost. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
  /** The offset in the blob up to which bytes were handed to the network; goes back when they are sent again. */
  readonly onSent?: ((end: number) => void) | undefined;
  /** The blob in the user's words, for events and errors. */
  readonly label: string;
}

/** What became of a blob. */
export interface BlobOutcome {
  readonly what: 'uploaded' | 'exists' | 'mounted';
  readonly identity: BlobIdentity;
  /** Bytes of all request bodies, in all tries. */
  readonly bytesSent: number;
  /** Those of them over the blob's size. */
  readonly bytesResent: number;
  readonly retries: number;
  /** Milliseconds from the end of a body to its answer, summed up. */
  readonly waitedMs: number;
  /** Milliseconds from the start of a request to the end of its body, summed up. */
  readonly sendingMs: number;
}

/** The repository, as far as an upload needs it. */
export interface UploadTarget {
  readonly name: string;
  /** Whether the registry says that it has the blob. 'unknown' when it won't say. */
  headBlob(
    digest: BlobIdentity['digest'],
    signal: AbortSignal,
  ): Promise<{ readonly state: 'present' | 'absent' | 'unknown' }>;
  /** Opens a session, by a mount where `mountFrom` is given. */
  open(
    task: { label: string; signal: AbortSignal },
    mount?: { digest: BlobIdentity['digest']; from: string },
  ): Promise<Session | 'mounted'>;
  /** Deletes a session in the background. */
  cancel(session: Session): void;
  /** The session came to its end by itself. */
  forget(session: Session): void;
}

export class Upload {
  readonly context: HostContext;
  readonly target: UploadTarget;
  readonly body: ReadableBlob;
  readonly options: UploadOptions;
  readonly budget: RetryBudget;
  readonly traffic: UploadMetrics;
  /** Whether HEAD has been asked, or is not to be. */
  looked: boolean;
  /** Where the last reset happened, to tell a size limit (T6) from bad luck. */
  lastReset: { readonly start: number; readonly taken: number } | undefined;
  /** Fresh sessions in a row that refused the first chunk. */
  refusalsAtStart = 0;
  /** Closing requests under which the registry found other bytes than those of the digest. */
  corrupt = 0;
  /** Whether it was said that the blob may be too large for the registry. */
  warnedOfSize = false;
  /** Whether the mount was tried. */
  mountTried = false;
  #session: Session | undefined;

  constructor(context: HostContext, target: UploadTarget, body: ReadableBlob, options: UploadOptions) {
    this.context = context;
    this.target = target;
    this.body = body;
    this.options = options;
    this.budget = new RetryBudget(context.maxRetries);
    this.traffic = new UploadMetrics(options.onSent);
    this.looked = options.force === true || options.mayExist === false;
  }

  get host(): HostCapabilities {
    return this.context.host;
  }

  get signal(): AbortSignal {
    return this.options.signal;
  }

  /** Whether the blob goes in one PUT whatever its size: T7, or the profile as long as nobody named a limit. */
  get monolithic(): boolean {
    return (
      this.host.noChunks !== undefined || (this.host.profile.monolithic === true && this.host.knownLimit === Infinity)
    );
  }

  get isOpen(): boolean {
    return this.#session !== undefined;
  }

  /** The open session. The steps that use it come only after one that opened it. */
  get session(): Session {
    if (this.#session === undefined) throw new Error('no upload session is open');
    return this.#session;
  }

  opened(session: Session): void {
    this.#session = session;
  }

  /** The session is given up: deleted in the background. */
  abandon(): void {
    if (this.#session !== undefined) this.target.cancel(this.#session);
    this.#session = undefined;
  }

  /** The registry holds the first `bytes` bytes in this session. */
  confirm(bytes: number): void {
    if (bytes > this.session.offset) {
      this.session.confirm(bytes);
      this.budget.progress(bytes);
      this.lastReset = undefined;
    }
    this.options.onProgress?.(bytes);
  }

  /** Counts a failed try and waits before the next one. Throws when there is none left. */
  async failed(error: RegistryError): Promise<void> {
    const failures = this.budget.failed();
    if (failures === undefined) throw this.gaveUp(failedTries(this.budget.failures), error);
    await pause(this.context, { label: this.options.label, signal: this.signal }, error, failures);
  }

  gaveUp(after: string, error: Error): UploadError {
    return gaveUp(this.options, after, error);
  }

  /** One request of the session, its time taken: its answer, or the temporary trouble in its place. */
  tried<T>(request: () => Promise<T>): Promise<T | RegistryError> {
    return answerOrTrouble(() => this.traffic.timed(request));
  }

  /** One request with the bytes of `piece`, in its turn. */
  async sent<T>(piece: ByteRange, size: number | undefined, request: () => Promise<T>): Promise<T | RegistryError> {
    const left = (size ?? Number.POSITIVE_INFINITY) - piece.start;
    const turn = this.context.turns.take(piece.end - piece.start, left);
    try {
      await untilAborted(turn, this.signal);
      return await this.tried(request);
    } finally {
      void turn.then((end) => end());
    }
  }

  /** Whether the registry says that it has the blob. */
  async exists(identity: BlobIdentity): Promise<boolean> {
    return (await this.target.headBlob(identity.digest, this.signal)).state === 'present';
  }

  /** Waits until so many bytes of the blob exist, or it has ended. */
  reach(bytes: number): Promise<Reach> {
    return untilAborted(this.body.reach(bytes), this.signal);
  }

  /** Waits for the blob's end. */
  completed(): Promise<BlobIdentity> {
    return untilAborted(this.body.completed(), this.signal);
  }

  /** A RegistryError for an answer that is no error by its status, but makes no sense. */
  oddity(method: string, reason: string): RegistryError {
    return new RegistryError({
      kind: 'protocol',
      method,
      url: new URL(this.session.location),
      reason,
      temporary: true,
    });
  }
}

/** The states of one blob's upload. */

/** T4: nobody knows what the registry holds. */
export interface QueryingStatus {
  readonly at: 'ask';
  readonly error: RegistryError;
}

/** T5: the session is given up. `counted`: its failure was already counted and waited for. */
export interface Restarting {
  readonly at: 'reopen';
  readonly error: RegistryError;
  readonly counted: boolean;
}

/** T8: nobody knows whether the blob is there. `idempotent`: the closing request had no body, so it may be sent again as it is. */
export interface ConfirmingCommit {
  readonly at: 'settle';
  readonly error: RegistryError;
  readonly idempotent: boolean;
}

export type State =
  /** T1: what is known of the blob, and does the registry have it? */
  | { readonly at: 'look' }
  /** T1: a session has to be opened. */
  | { readonly at: 'open' }
  /** T2: the session's offset is known, the next bytes go. */
  | { readonly at: 'send' }
  | QueryingStatus
  | Restarting
  | ConfirmingCommit
  | { readonly at: 'done'; readonly what: BlobOutcome['what'] };
