/** What the upload needs to know of a blob: bytes that can be read again at any offset, perhaps while they are still being made. */

import type { Readable } from 'node:stream';
import type { Digest } from '../oci/types.ts';

/** Digest and length (bytes) of a whole blob. */
export interface BlobIdentity {
  readonly digest: Digest;
  readonly size: number;
}

/** How far a blob has come: the bytes that exist, and whether there will be no more. */
export interface Reach {
  readonly available: number;
  readonly ended: boolean;
}

export interface ReadableBlob {
  /** Set from the start when the blob is known before its bytes are read, and from its end on when it was made. */
  readonly identity: BlobIdentity | undefined;
  /** Resolves as soon as `bytes` exist or the blob has ended. Rejects when the making failed. */
  reach(bytes: number): Promise<Reach>;
  /** Resolves at the blob's end. Rejects when the making failed or its bytes are not those that were asked for. */
  whole(): Promise<BlobIdentity>;
  /** The bytes [start, end), which must exist: in memory, or a new stream each time, so that any request can be repeated. */
  read(start: number, end: number): Readable | Buffer;
}

/** The bytes [start, end) of a blob, as one request carries them. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}
