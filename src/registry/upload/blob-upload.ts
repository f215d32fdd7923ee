/** The states of one blob's upload, everything that they share, and the small moves that several of them make. */
import type { BlobIdentity, ByteRange, Reach, ReadableBlob, SessionNote } from '../../blob/blob.ts';
import { untilAborted } from '../../common/async.ts';
import { GROWING_CHUNK_SIZE, type HostCapabilities } from '../host/capabilities.ts';
import { answerOrTrouble, type HostContext } from '../host/context.ts';
import { gaveUp, Patience, type Task } from '../host/patience.ts';
import { RegistryError, type UploadError } from '../http/error.ts';
import { SlowRequest, UploadLimits, UploadMetrics } from './metrics.ts';
import type { Session } from './session.ts';

export interface UploadOptions {
  readonly signal: AbortSignal;
  /** A repository of the same registry that is thought to have the blob. */
  readonly mountFrom?: string | undefined;
  /** Default true. False: the caller knows that the blob is absent, so it is not asked for at first. */
  readonly mayExist?: boolean | undefined;
  /** The registry's HEAD is not believed: it denied the blob when the manifest came. */
  readonly uploadAgain?: boolean | undefined;
  /** Opens a session while the blob is asked for: for blobs of which no source says that they may exist. */
  readonly openWhileAsking?: boolean | undefined;
  /** Called with the answer to the first HEAD, before it is there. */
  readonly onAsking?: ((exists: Promise<boolean>) => void) | undefined;
  /**
   * With `openWhileAsking`, for a blob of `size` bytes: what tells, once its session is open, whether to ask for it at
   * all. Undefined: it is asked for at once.
   */
  readonly worthAsking?: ((size: number) => (() => Promise<boolean>) | undefined) | undefined;
  /** The session of an earlier process for this blob in this repository; where it cannot go on, a new one is opened. */
  readonly resume?: Pick<SessionNote, 'location' | 'chunkSize'> | undefined;
  /** Called when a session is opened and with each confirmed chunk; with undefined when there is none any more. */
  readonly onSession?: ((session: SessionNote | undefined) => void) | undefined;
  /** The bytes that the registry has confirmed; goes back to 0 when a session is lost. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
  /** The offset in the blob up to which bytes were handed to the network; goes back when they are sent again. */
  readonly onSent?: ((end: number) => void) | undefined;
  /** What the user calls the blob, for events and errors. */
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
  /** Opens a session, by a mount where one is given. */
  open(task: Task, mount?: { digest: BlobIdentity['digest']; from: string }): Promise<Session | 'mounted'>;
  /** A session at the location that an earlier process noted; undefined for what is no URL. Nothing is sent. */
  resumed(location: string): Session | undefined;
  /** Deletes a session in the background. */
  cancel(session: Session): void;
  /** The session came to its end by itself. */
  forget(session: Session): void;
}

export class BlobUpload {
  readonly context: HostContext;
  readonly target: UploadTarget;
  readonly body: ReadableBlob;
  readonly options: UploadOptions;
  readonly patience: Patience;
  readonly limits: UploadLimits;
  readonly metrics: UploadMetrics;
  /** Whether HEAD has been asked, or is not to be. */
  asked: boolean;
  /** Whether the session of an earlier process was tried. */
  resumeTried = false;
  /** Whether the mount was tried. */
  mountTried = false;
  /** Where the last reset happened, to tell a size limit from bad luck. */
  lastReset: { readonly start: number; readonly taken: number } | undefined;
  /** Requests with a body that broke or timed out: in a row, or, where each costs the session, in all. */
  breaks = 0;
  /** Fresh sessions in a row that refused the first chunk. */
  refusalsAtStart = 0;
  /** Closing requests under which the registry found other bytes than those of the digest. */
  corrupt = 0;
  /** Whether it was said that the blob may be too large for the registry. */
  warnedOfSize = false;
  #session: Session | undefined;

  constructor(context: HostContext, target: UploadTarget, body: ReadableBlob, options: UploadOptions) {
    this.context = context;
    this.target = target;
    this.body = body;
    this.options = options;
    const { label, signal } = options;
    this.patience = new Patience(context, { label, signal, remedy: () => this.#remedy() });
    this.limits = new UploadLimits(context.maxRetries);
    this.metrics = new UploadMetrics(options.onSent);
    this.asked = options.uploadAgain === true || options.mayExist === false;
  }

  get host(): HostCapabilities {
    return this.context.host;
  }

  get signal(): AbortSignal {
    return this.options.signal;
  }

  /**
   * Whether the blob goes in one PUT whatever its size: no chunks here, or the profile as long as no limit was named.
   */
  get monolithic(): boolean {
    return (
      this.host.noChunks !== undefined || (this.host.profile.monolithic === true && this.host.knownLimit === Infinity)
    );
  }

  /** The most bytes that one chunk should have: those of a blob that is being made should not wait for a large one. */
  get mostAtOnce(): number {
    const { identity, maxChunk = Number.POSITIVE_INFINITY } = this.body;
    return identity === undefined ? Math.min(maxChunk, GROWING_CHUNK_SIZE) : maxChunk;
  }

  get isOpen(): boolean {
    return this.#session !== undefined;
  }

  /** The open session. The states that use it come only after one that opened it. */
  get session(): Session {
    if (this.#session === undefined) throw new Error('no upload session is open');
    return this.#session;
  }

  opened(session: Session): void {
    this.#session = session;
    this.#note();
  }

  /** The session is given up: deleted in the background. */
  abandon(): void {
    if (this.#session === undefined) return;
    this.target.cancel(this.#session);
    this.#ended();
  }

  /** The session came to its end with the blob. */
  closed(): void {
    this.target.forget(this.session);
    this.#ended();
  }

  #ended(): void {
    this.#session = undefined;
    this.options.onSession?.(undefined);
  }

  #note(): void {
    const { location, offset, chunkSize } = this.session;
    this.options.onSession?.({ location, offset, ...(chunkSize === undefined ? {} : { chunkSize }) });
  }

  /** The registry holds the first `bytes` bytes in this session. */
  confirm(bytes: number): void {
    if (bytes > this.session.offset) {
      this.session.confirm(bytes);
      this.patience.progress();
      this.limits.progress(bytes);
      this.lastReset = undefined;
      this.#note();
    }
    this.options.onProgress?.(bytes);
  }

  /** Counts a failure and waits before the next try. Throws when there is none left. */
  failed(error: RegistryError): Promise<void> {
    return this.patience.failed(error);
  }

  gaveUp(after: string, error: Error): UploadError {
    return gaveUp({ label: this.options.label, remedy: () => this.#remedy() }, after, error);
  }

  /** What to do where requests with a body are what failed. */
  #remedy(): string | undefined {
    if (this.breaks === 0) return undefined;
    const size = this.host.largestBody;
    return `requests with bodies of up to ${size} bytes break before they are answered: set chunk-size to less, or look for a limit of time or size in a proxy or load balancer before the registry`;
  }

  /** One request of the session, its time taken: its answer, or the error in its place that may pass. */
  tried<T extends { readonly status: number }>(request: () => Promise<T>): Promise<T | RegistryError> {
    return answerOrTrouble(this.context, () => this.metrics.timed(request));
  }

  /**
   * One request with the bytes of `range`, when it is its turn: its answer, or the error in its place that may pass.
   * One that turns out to take too long is cut off where that loses nothing but its own bytes.
   */
  async sent<T extends { readonly status: number }>(
    range: ByteRange,
    size: number | undefined,
    request: (signal: AbortSignal) => Promise<T>,
  ): Promise<T | RegistryError> {
    const bytes = range.end - range.start;
    const turn = this.context.bodies.take(bytes, (size ?? Number.POSITIVE_INFINITY) - range.start);
    let slow: SlowRequest | undefined;
    try {
      await untilAborted(turn, this.signal);
      slow = this.#mayCut(range) ? new SlowRequest(this.metrics, bytes) : undefined;
      const signal = slow === undefined ? this.signal : AbortSignal.any([this.signal, slow.signal]);
      return await this.tried(() => request(signal));
    } catch (error) {
      if (slow?.signal.aborted !== true || this.signal.aborted || !(error instanceof RegistryError)) throw error;
      return this.#cutOff(error, bytes);
    } finally {
      slow?.done();
      void turn.then((end) => end());
    }
  }

  #mayCut({ start, end }: ByteRange): boolean {
    return !this.monolithic && this.host.canShorten(end - start) && (start === 0 || this.host.keepsSessions);
  }

  #cutOff({ method }: RegistryError, bytes: number): RegistryError {
    const { taken, lastMs } = this.metrics;
    this.host.measured(taken, lastMs);
    const reason = `${taken} of ${bytes} bytes were sent in ${Math.round(lastMs / 1000)} s: smaller requests follow`;
    return new RegistryError({
      kind: 'timeout',
      method,
      url: new URL(this.session.location),
      reason,
      temporary: true,
      cause: CUT_OFF,
    });
  }

  /** Whether the registry says that it has the blob. */
  async exists(identity: BlobIdentity): Promise<boolean> {
    return (await this.target.headBlob(identity.digest, this.signal)).state === 'present';
  }

  /** Waits until `bytes` of the blob exist, or it has ended. */
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

/** The cause of errors of requests that we ended ourselves because they would have taken too long. */
const CUT_OFF = new Error('cut off');

/** Whether we ended this request ourselves: that is no failed try. */
export const wasCutOff = (error: RegistryError): boolean => error.cause === CUT_OFF;

// The states: see upload.ts.

/** It is not known what the registry holds. `counted`: the failure needs no wait. */
export interface QueryingStatus {
  readonly at: 'queryStatus';
  readonly error: RegistryError;
  readonly counted?: boolean;
}

/** The session is given up. `counted`: its failure was already counted and waited for. */
export interface Restarting {
  readonly at: 'restart';
  readonly error: RegistryError;
  readonly counted: boolean;
}

/**
 * It is not known whether the blob is there. `idempotent`: the closing request had no body, so it may be sent again as
 * it is.
 */
export interface ConfirmingCommit {
  readonly at: 'confirmCommit';
  readonly error: RegistryError;
  readonly idempotent: boolean;
}

export type State =
  /** What is known of the blob, and does the registry have it? */
  | { readonly at: 'checkExists' }
  /** A session has to be opened. */
  | { readonly at: 'openSession' }
  /** The session's offset is known, the next bytes go. */
  | { readonly at: 'send' }
  | QueryingStatus
  | Restarting
  | ConfirmingCommit
  | { readonly at: 'done'; readonly what: BlobOutcome['what'] };
