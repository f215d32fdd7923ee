import { UploadError } from '../http/upload-error.ts';
import type { RegistryEvent } from './context.ts';
import type { Profile } from './profiles.ts';

/** 95 MB: under 100 MB and 100 MiB alike, the commonest limit of proxies (Cloudflare Free and Pro). */
export const DEFAULT_CHUNK_SIZE = 95 * 2 ** 20;

/**
 * Chunks of a blob that is still being made: its sending starts as soon as so much exists, and a failed chunk costs no more
 * than this. Until then the link is idle: on two cores with other work the first body left after 2 s with 16 MiB, after 4 to 5 s with 32.
 * A round trip of 30 ms between chunks is 5 % of a blob that has a link of 200 Mbit/s to itself, and nothing where two share it.
 */
export const GROWING_CHUNK_SIZE = 16 * 2 ** 20;

/** Under the default limit of every known proxy (nginx 1 MiB): whoever refuses even this refuses for another reason than size. */
const SMALLEST_LIMIT = 64 * 2 ** 10;

/** No host can ask for more with `auto`: twice the largest body limit of the proxies that are common (Cloudflare Enterprise, 500 MB). */
const LARGEST_MINIMUM = 2 ** 30;

/** ECR's Range was seen to stall at every chunk but the first: two stalls under a 201 are no accident. */
const STALLS_THAT_PROVE = 2;

export interface HostOptions {
  /** As in the image reference, for messages. */
  readonly host: string;
  readonly profile: Profile;
  /** The user's largest request body, bytes. */
  readonly chunkSize: number | 'auto';
  readonly onEvent: (event: RegistryEvent) => void;
}

/** The headers of a response, names in lower case. */
type Headers = Readonly<Record<string, string>>;

export class HostCapabilities {
  readonly host: string;
  readonly profile: Profile;
  /** Whether the closing PUT carries the last chunk: by profile, or because an empty one was refused. */
  lastChunkInPut: boolean;
  /** The answer that showed that this host takes no chunks (T7); undefined as long as it may. */
  noChunks: string | undefined;
  /** Whether it has taken a chunk. */
  takesChunks = false;
  readonly #chunkSize: number | 'auto';
  readonly #onEvent: (event: RegistryEvent) => void;
  #announcedMax: number | undefined;
  #announcedMin: number | undefined;
  #learnt: number | undefined;
  /** Half of a size under which connections broke: a limit when a smaller body is taken next, nothing when a larger one is. */
  #suspected: number | undefined;
  #told: number | undefined;
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
    return least(this.#announcedMax, this.#learnt);
  }

  /** The largest body (bytes) that anybody named: the user, the registry, a 413. Infinity when nobody did. */
  get knownLimit(): number {
    return least(this.limitFound, this.#chunkSize === 'auto' ? undefined : this.#chunkSize) ?? Infinity;
  }

  /** Whether the registry announces chunk lengths, as serverless-registry does: it then also checks the range of every chunk. */
  get announcesChunks(): boolean {
    return this.#announcedMin !== undefined && this.#announcedMax !== undefined;
  }

  /** The largest body (bytes) to send, T3: `auto` is what the registry announces, else the profile's, else 95 MB. */
  get largestBody(): number {
    const wanted =
      this.#chunkSize === 'auto'
        ? (this.#announcedMax ?? this.profile.chunkSize ?? DEFAULT_CHUNK_SIZE)
        : this.#chunkSize;
    const limit = least(wanted, this.profile.chunkSize, this.limitFound, this.#suspected) ?? wanted;
    const raised = this.#chunkSize === 'auto' && this.limitFound === undefined && this.#minimum <= LARGEST_MINIMUM;
    return raised ? Math.max(limit, this.#minimum) : limit;
  }

  /**
   * The size (bytes) of all chunks of a session but the last, T3. Throws UploadError when the registry's minimum is over
   * what may be sent.
   */
  chunkSize(growing: boolean): number {
    const limit = this.largestBody;
    if (this.#minimum > limit) throw this.#absurdMinimum(limit);
    return Math.max(growing ? Math.min(limit, GROWING_CHUNK_SIZE) : limit, this.#minimum);
  }

  /** The size (bytes) of the chunks of a blob that is still being made, as far as it is known before a session is open. */
  get growingChunk(): number {
    return Math.max(Math.min(this.largestBody, GROWING_CHUNK_SIZE), Math.min(this.#minimum, LARGEST_MINIMUM));
  }

  /** Takes note of OCI-Chunk-Max-Length and OCI-Chunk-Min-Length. distribution-spec, "Pushing a blob in chunks". */
  announce(headers: Headers): void {
    const max = length(headers['oci-chunk-max-length']);
    this.#announcedMin = length(headers['oci-chunk-min-length']) ?? this.#announcedMin;
    if (max === undefined || max === this.#announcedMax) return;
    this.#announcedMax = max;
    this.#onEvent({ type: 'limit', host: this.host, bytes: max, announced: true });
  }

  /**
   * Takes note that a body of so many bytes was refused for its size (T6): from now on at most half of it. Throws UploadError
   * when there is no smaller size to try.
   */
  refused(bytes: number, cause: Error): void {
    if (this.limitFound !== undefined && bytes > this.limitFound && bytes > this.largestBody) return;
    const half = this.#smaller(bytes);
    if (half === undefined) throw this.#noSmallerSize(bytes, cause);
    this.#learnt = least(this.#learnt, half);
  }

  /** Takes note that a body of so many bytes was taken, and tells once what limit was found. */
  accepted(bytes: number): void {
    this.#largestAccepted = Math.max(this.#largestAccepted, bytes);
    this.#weighSuspicion(bytes);
    if (this.#learnt === undefined || this.#told === this.#learnt || !isAbout(bytes, this.#learnt)) return;
    this.#told = this.#learnt;
    this.#onEvent({ type: 'limit', host: this.host, bytes: this.#learnt, announced: false });
  }

  /** Takes note that connections break under a body of so many bytes: from now on at most half of it. Only if `canShrink`. */
  suspect(bytes: number): void {
    if (bytes <= this.largestBody) this.#suspected = this.#smaller(bytes);
  }

  /** Takes note of a chunk that was taken: resets are then no sign of a limit, refusals no sign that there are no chunks. */
  acceptedChunk(bytes: number): void {
    this.takesChunks = true;
    this.accepted(bytes);
  }

  /** Whether resets of a body of this size may be about its size: nobody has taken one so large, and a smaller one may be tried. */
  canShrink(bytes: number): boolean {
    return bytes > this.#largestAccepted && this.#smaller(bytes) !== undefined;
  }

  /** Whether the Range of this host is not to be believed when it does not move. */
  get rangeIsStale(): boolean {
    return this.#stalls >= STALLS_THAT_PROVE;
  }

  /** Takes note of an answer 201 whose Range did not move. */
  stalled(): void {
    this.#stalls += 1;
  }

  /** A body of about the suspected size proves the limit, a larger one refutes it, a small one says nothing. */
  #weighSuspicion(accepted: number): void {
    if (this.#suspected === undefined) return;
    if (isAbout(accepted, this.#suspected)) this.#learnt = least(this.#learnt, this.#suspected);
    if (accepted * 2 > this.#suspected) this.#suspected = undefined;
  }

  /** Half of a size that was refused, rounded up so that two such chunks hold what was refused; undefined when that is under every sensible limit or the registry's own minimum. */
  #smaller(bytes: number): number | undefined {
    const half = Math.ceil(bytes / 2);
    return half < SMALLEST_LIMIT || half < this.#minimum ? undefined : half;
  }

  get #minimum(): number {
    return this.#announcedMin ?? 0;
  }

  #absurdMinimum(limit: number): UploadError {
    const why =
      this.#learnt !== undefined && this.#learnt <= limit
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

/** A header's number of bytes; undefined for anything that is not a positive whole number. */
function length(header: string | undefined): number | undefined {
  if (header === undefined || !/^\s*\d{1,15}\s*$/.test(header)) return undefined;
  return Number(header) > 0 ? Number(header) : undefined;
}
