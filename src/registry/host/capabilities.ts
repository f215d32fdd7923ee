/** What was found out about a host: how large, how equal and how long its requests may be. */

import { DEFAULT_CHUNK_SIZE } from '../../blob/blob.ts';
import { type ResponseHeaders, UploadError } from '../http/error.ts';
import { announcedLengths } from '../http/response.ts';
import type { Profile } from './profiles.ts';

/**
 * Chunks of a blob that is still being made: its sending starts as soon as so much exists, and a failed chunk costs no
 * more than this. Until then the link is idle: on two cores with other work the first body left after 2 s with 16 MiB,
 * after 4 to 5 s with 32. A round trip of 30 ms between chunks is 5 % of a blob that has a link of 200 Mbit/s to
 * itself, and nothing where two share it.
 */
export const GROWING_CHUNK_SIZE = 16 * 2 ** 20;

/** Under the default limit of every known proxy (nginx 1 MiB): a refusal of even this has another reason than size. */
export const SMALLEST_LIMIT = 64 * 2 ** 10;

/**
 * No host can ask for more with `auto`: twice the largest body limit of the proxies that are common (Cloudflare
 * Enterprise, 500 MB).
 */
const LARGEST_MINIMUM = 2 ** 30;

/** ECR's Range was seen to stall at every chunk but the first: two stalls under a 201 are no accident. */
const STALLS_THAT_PROVE = 2;

/**
 * How long a request with a body should take at the speed that was seen, ms: under the 30 s of common load balancers
 * (GCP, Heroku).
 */
const WANTED_REQUEST_MS = 20_000;

/** And how long it may take at most: under Cloudflare's 100 s, AWS's and nginx's 60 s. */
export const LONGEST_REQUEST_MS = 60_000;

/** The size of chunks is changed within a session when they would take longer than this, ms. */
const TOO_LONG_MS = 30_000;

/** For the sake of time no chunk is smaller: round trips would be what takes it. */
const SMALLEST_IN_TIME = 2 ** 20;

/** A session's chunks grow again when they are this much smaller than what the host takes. */
const MUCH_SMALLER = 4;

/**
 * The largest request body (bytes) that a host announced, or was found to take. `by`: its refusal of larger ones shows
 * it, or that those break or take too long. Once for each value that holds.
 */
export interface LimitEvent {
  readonly type: 'limit';
  readonly host: string;
  readonly bytes: number;
  readonly announced: boolean;
  readonly by?: 'size' | 'time';
}

interface HostOptions {
  /** As in the image reference, for messages. */
  readonly host: string;
  readonly profile: Profile;
  /** The user's largest request body, bytes. */
  readonly chunkSize: number | 'auto';
  readonly onEvent: (event: LimitEvent) => void;
}

export class HostCapabilities {
  readonly host: string;
  readonly profile: Profile;
  /** Whether the closing PUT carries the last chunk: by profile, or because an empty one was refused. */
  lastChunkInPut: boolean;
  /** The answer that showed that this host takes no chunks; undefined as long as it may. */
  noChunks: string | undefined;
  /** Whether it has taken a chunk. */
  takesChunks = false;
  /** Whether a session was seen to go on after a chunk that broke (distribution 3): cutting one off costs little. */
  keepsSessions = false;
  /** Whether a session with chunks of different sizes could not be closed (storages that want equal parts). */
  needsEqual = false;
  /** Whether connections broke under bodies: each chunk gets a new one, for middleboxes that count their bytes. */
  freshConnections = false;
  readonly #chunkSize: number | 'auto';
  readonly #onEvent: (event: LimitEvent) => void;
  #announcedMax: number | undefined;
  /** What was announced, bytes; 0 for nothing. */
  #minimum = 0;
  #foundLimit: number | undefined;
  /**
   * Half of a size under which connections broke: a limit when a smaller body is taken next, nothing when a larger one
   * is.
   */
  #suspected: number | undefined;
  /** The largest body that ended neither by time nor by a break; undefined as long as none did. */
  #inTime: number | undefined;
  /** Bytes a millisecond of the bodies that were taken, the recent ones counting more. */
  #speed: number | undefined;
  #reported: number | undefined;
  #reportedInTime: number | undefined;
  #largestAccepted = 0;
  #stalls: number;

  constructor(options: HostOptions) {
    this.host = options.host;
    this.profile = options.profile;
    this.#chunkSize = options.chunkSize;
    this.#onEvent = options.onEvent;
    this.lastChunkInPut = options.profile.lastChunkInPut ?? false;
    this.#stalls = options.profile.staleRange === true ? STALLS_THAT_PROVE : 0;
  }

  /** The largest body (bytes) that was announced or found; undefined when neither. */
  get limitFound(): number | undefined {
    return least(this.#announcedMax, this.#foundLimit);
  }

  /** The largest body (bytes) that was named by the user, the registry or a 413. Infinity when none was. */
  get knownLimit(): number {
    return least(this.limitFound, this.#chunkSize === 'auto' ? undefined : this.#chunkSize) ?? Infinity;
  }

  /**
   * Whether the registry announces chunk lengths, as serverless-registry does: it then also checks the range of every
   * chunk.
   */
  get announcesChunks(): boolean {
    return this.#minimum > 0 && this.#announcedMax !== undefined;
  }

  /** Whether all chunks of a session but the last must have one size. */
  get needsEqualChunks(): boolean {
    return this.announcesChunks || this.needsEqual;
  }

  /** The largest body (bytes) to send: what the limits allow, and what goes through in time. */
  get largestBody(): number {
    const inTime = Math.max(this.#smallestInTime, Math.min(this.#inTime ?? Infinity, this.#wanted));
    return Math.min(this.#sizeLimit, inTime);
  }

  /**
   * The largest body that the limits of size allow: `auto` is what the registry announces, else the profile's, else 95
   * MiB.
   */
  get #sizeLimit(): number {
    const wanted =
      this.#chunkSize === 'auto'
        ? (this.#announcedMax ?? this.profile.chunkSize ?? DEFAULT_CHUNK_SIZE)
        : this.#chunkSize;
    const limit = least(wanted, this.profile.chunkSize, this.limitFound, this.#suspected) ?? wanted;
    const raised = this.#chunkSize === 'auto' && this.limitFound === undefined && this.#minimum <= LARGEST_MINIMUM;
    return raised ? Math.max(limit, this.#minimum) : limit;
  }

  /** What goes through in the wanted time at the speed that was seen, in whole mebibytes. */
  get #wanted(): number {
    if (this.#speed === undefined) return Infinity;
    return Math.floor((this.#speed * WANTED_REQUEST_MS) / SMALLEST_IN_TIME) * SMALLEST_IN_TIME;
  }

  get #smallestInTime(): number {
    return Math.max(SMALLEST_IN_TIME, this.#minimum, this.profile.smallestChunk ?? 0);
  }

  /**
   * The size (bytes) of the chunks of a new session but the last. Throws UploadError when the registry's minimum is
   * over what may be sent. `most`: the bytes that the blob has room for at once.
   */
  chunkSize(most = Infinity): number {
    const limit = this.largestBody;
    if (this.#minimum > limit) throw this.#absurdMinimum(limit);
    return Math.max(Math.min(limit, most), this.#minimum);
  }

  /**
   * The size of a session's next chunk. Sizes stay equal, for storages that want them so, unless they would take too
   * long or break, or have become much smaller than need be. `varies`: they are unequal already.
   */
  nextChunk(current: number, most: number, varies: boolean): number {
    if (this.needsEqualChunks) return current;
    const next = Math.min(this.largestBody, most);
    const tooLong = this.#speed !== undefined && current / this.#speed > TOO_LONG_MS;
    if (next < current && (tooLong || current > (this.#inTime ?? Infinity))) return next;
    return next >= current * (varies ? 2 : MUCH_SMALLER) && !this.#isLimited ? next : current;
  }

  /** Whether a size was refused: what grows then might be refused again. */
  get #isLimited(): boolean {
    return this.#foundLimit !== undefined || this.#suspected !== undefined;
  }

  /**
   * The size (bytes) of the chunks of a blob that has room for `most` at once, as far as that is known before a session
   * is open.
   */
  firstChunk(most: number): number {
    return Math.max(Math.min(this.largestBody, most), Math.min(this.#minimum, LARGEST_MINIMUM));
  }

  /** Notes OCI-Chunk-Max-Length and OCI-Chunk-Min-Length. distribution-spec, "Pushing a blob in chunks". */
  announce(headers: ResponseHeaders): void {
    const { min, max } = announcedLengths(headers);
    this.#minimum = min ?? this.#minimum;
    if (max === undefined || max === this.#announcedMax) return;
    this.#announcedMax = max;
    this.#onEvent({ type: 'limit', host: this.host, bytes: max, announced: true });
  }

  /**
   * Notes that a body of this size was refused for it: from now on at most half of it. Throws UploadError when there is
   * no smaller size to try.
   */
  refused(bytes: number, cause: Error): void {
    if (this.limitFound !== undefined && bytes > this.limitFound && bytes > this.largestBody) return;
    const half = this.#smaller(bytes);
    if (half === undefined) throw this.#noSmallerSize(bytes, cause);
    this.#foundLimit = least(this.#foundLimit, half);
  }

  /** Notes that a body of this size was taken, and reports once what limit was found. */
  accepted(bytes: number): void {
    this.#largestAccepted = Math.max(this.#largestAccepted, bytes);
    this.#weighSuspicion(bytes);
    this.#reportTime(bytes);
    if (this.#foundLimit === undefined || this.#reported === this.#foundLimit || !isAbout(bytes, this.#foundLimit))
      return;
    this.#reported = this.#foundLimit;
    this.#onEvent({ type: 'limit', host: this.host, bytes: this.#foundLimit, announced: false });
  }

  /** Notes how long a body and its answer took: the next ones are made to fit the time. */
  measured(bytes: number, ms: number): void {
    // What smaller bodies take is mostly the round trip and the registry's own work.
    if (bytes < SMALLEST_IN_TIME || ms <= 0) return;
    this.#speed = this.#speed === undefined ? bytes / ms : (this.#speed + bytes / ms) / 2;
  }

  /** Whether a body of this size can be made smaller for the sake of time. */
  canShorten(bytes: number): boolean {
    return bytes > this.#smallestInTime;
  }

  /**
   * Notes that a body of this size was ended by time, or broke again and again: from now on at most half. Whether that
   * is less.
   */
  tookTooLong(bytes: number): boolean {
    if (!this.canShorten(bytes)) return false;
    this.#inTime = Math.min(this.#inTime ?? Infinity, Math.max(this.#smallestInTime, Math.ceil(bytes / 2)));
    return true;
  }

  /** Notes that a connection broke under a body. */
  connectionBroke(): void {
    this.freshConnections = true;
  }

  /** Notes that connections break under a body of this size: from now on at most half of it. Only if `canShrink`. */
  suspect(bytes: number): void {
    if (bytes <= this.largestBody) this.#suspected = this.#smaller(bytes);
  }

  /** Notes that a chunk was taken: resets are then no sign of a limit, refusals no sign that there are no chunks. */
  acceptedChunk(bytes: number): void {
    this.takesChunks = true;
    this.accepted(bytes);
  }

  /**
   * Whether resets of a body of this size may be about its size: none so large was ever taken, and a smaller one may be
   * tried.
   */
  canShrink(bytes: number): boolean {
    return bytes > this.#largestAccepted && this.#smaller(bytes) !== undefined;
  }

  /** Whether the Range of this host is not to be believed when it does not move. */
  get rangeIsStale(): boolean {
    return this.#stalls >= STALLS_THAT_PROVE;
  }

  /** Notes an answer 201 whose Range did not move. */
  stalled(): void {
    this.#stalls += 1;
  }

  #reportTime(accepted: number): void {
    if (this.#inTime === undefined || this.#reportedInTime === this.#inTime || !isAbout(accepted, this.#inTime)) return;
    this.#reportedInTime = this.#inTime;
    this.#onEvent({ type: 'limit', host: this.host, bytes: this.#inTime, announced: false, by: 'time' });
  }

  /** A body of about the suspected size proves the limit, a larger one refutes it, a small one says nothing. */
  #weighSuspicion(accepted: number): void {
    if (this.#suspected === undefined) return;
    if (isAbout(accepted, this.#suspected)) this.#foundLimit = least(this.#foundLimit, this.#suspected);
    if (accepted * 2 > this.#suspected) this.#suspected = undefined;
  }

  /**
   * Half of a size that was refused, rounded up so that two such chunks hold what was refused; undefined when that is
   * under every sensible limit or the registry's own minimum.
   */
  #smaller(bytes: number): number | undefined {
    const half = Math.ceil(bytes / 2);
    return half < SMALLEST_LIMIT || half < this.#minimum ? undefined : half;
  }

  #absurdMinimum(limit: number): UploadError {
    const why =
      this.#foundLimit !== undefined && this.#foundLimit <= limit
        ? `something in front of it refuses bodies over ${limit} bytes`
        : this.#chunkSize !== 'auto' && this.#chunkSize <= limit
          ? `chunk-size allows ${limit} bytes`
          : `the most that may be sent is ${limit} bytes`;
    return new UploadError(
      `${this.host} asks for chunks of at least ${this.#minimum} bytes (OCI-Chunk-Min-Length), but ${why}`,
      {
        remedy:
          this.#chunkSize === 'auto'
            ? 'correct the limits of the registry or of the proxy in front of it'
            : `set chunk-size to ${this.#minimum} or more`,
      },
    );
  }

  #noSmallerSize(bytes: number, cause: Error): UploadError {
    const floor = this.#minimum > 0 ? `, and the registry asks for chunks of at least ${this.#minimum} bytes` : '';
    return new UploadError(`${this.host} refuses a body of ${bytes} bytes${floor}: ${cause.message}`, {
      remedy: 'raise the body limit of the proxy in front of the registry',
      cause,
    });
  }
}

/** Whether a body says something about a limit: at most as large, and more than half of it. */
const isAbout = (bytes: number, limit: number): boolean => bytes <= limit && bytes * 2 > limit;

/** The smallest of the numbers that are there. */
function least(...numbers: readonly (number | undefined)[]): number | undefined {
  const present = numbers.filter((number) => number !== undefined);
  return present.length === 0 ? undefined : Math.min(...present);
}
