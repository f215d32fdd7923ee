/**
 * What all rooms know of a blob. A source hands over content (StoredBlob, StreamedBlob); an upload reads a
 * ReadableBlob:
 *
 *   in memory               memoryBlob     a config, a manifest, a small layer
 *   in an open store        seekableBlob   read where it lies, hashed beside the upload
 *   in another registry     remoteBlob     read by ranges, hashed while it is sent
 *   in a file of the cache  cachedBlob     verified before it is handed over
 *   made while it is sent   StreamingBlob  compressed or copied into the spool (compressLayer, spoolBlob)
 */

import type { Readable } from 'node:stream';
import type { Digest } from '../oci/types.ts';

/** Digest and length (bytes) of a complete blob. */
export interface BlobIdentity {
  readonly digest: Digest;
  readonly size: number;
}

/** How far a blob has come: the bytes that exist, and whether there will be no more. */
export interface Reach {
  readonly available: number;
  readonly ended: boolean;
}

/**
 * Bytes of a chunk: 95 MiB is under 100 MB and 100 MiB alike, the commonest limit of proxies (Cloudflare Free and Pro).
 */
export const DEFAULT_CHUNK_SIZE = 95 * 2 ** 20;

/** The bytes [start, end) of a blob, as one request carries them. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * An upload session as a later process can go on with it. Holds no credentials; the location may be signed: not for
 * logs.
 */
export interface SessionNote {
  readonly location: string;
  /** Bytes that the registry has confirmed. */
  readonly offset: number;
  /** The size (bytes) of all chunks so far; undefined before the first. */
  readonly chunkSize?: number | undefined;
}

/**
 * What an upload reads: bytes at any offset, as often as a request is repeated, perhaps while later ones are still
 * being made.
 */
export interface ReadableBlob {
  /** Set from the start when the blob is known before its bytes are read, and from its end on when it is made. */
  readonly identity: BlobIdentity | undefined;
  /**
   * The most bytes that one request should ask for, where the disk has no room for more; a registry's minimum comes
   * first.
   */
  readonly maxChunk?: number;
  /**
   * Resolves as soon as `bytes` exist or the blob has ended. Rejects with LayerError when the making failed, or when
   * the bytes of a blob that was known beforehand turned out to be others.
   */
  reach(bytes: number): Promise<Reach>;
  /** Resolves at the blob's end, its digest verified. Rejects like `reach`. */
  completed(): Promise<BlobIdentity>;
  /**
   * The bytes [start, end), which must exist: in memory, or a new stream each time, so that any request can be
   * repeated.
   */
  read(start: number, end: number): Readable | Buffer;
}

/** A blob that is made while it is sent: a layer that is compressed, or what comes out of `docker save`. */
export interface StreamingBlob extends ReadableBlob {
  read(start: number, end: number): Readable;
  /** Of a compressed layer: the sha256 of its uncompressed bytes, known when the input has ended. */
  readonly diffId?: Promise<Digest>;
  /** The absolute path of the spool file; undefined when not all bytes are in it, because the disk is short. */
  readonly file: string | undefined;
  readonly times: { readonly waitingForInputMs: number; readonly compressingMs: number; readonly heldBackMs: number };
  /**
   * The first `bytes` are in every registry: the spool may let the maker go on, and where the disk is short remove
   * them. When a registry then loses its upload session (fewer bytes than before), all that wait are rejected with
   * SpoolShortError: the blob has to be made again.
   */
  confirmed(bytes: number): void;
  /**
   * Nothing reads the blob any more: ends its making if need be, and deletes its file unless the cache keeps a complete
   * one.
   */
  release(keep?: boolean): Promise<void>;
}

/** Told by the first bytes: see blobFormat in source/compression.ts. */
export type BlobFormat = 'tar' | 'gzip' | 'zstd' | 'xz' | 'bzip2' | 'other';

/** One blob of an open store. Its bytes are not verified yet: seekableBlob and spoolBlob hash them. */
export interface StoredBlob {
  /** Bytes; absent when only reading tells (a layer that is assembled). */
  readonly size?: number;
  /** What its first bytes say. */
  readonly format: BlobFormat;
  /** Whether `read` takes any range; otherwise it returns all bytes from 0 on, each time anew. */
  readonly seekable: boolean;
  /**
   * Whether each reading costs requests to another host: its bytes are hashed while they are sent, not by a reading of
   * their own.
   */
  readonly isRemote?: boolean;
  /** All bytes, where the blob is so small that it was read to tell its format. */
  readonly bytes?: Buffer;
  /** The bytes [start, end), all of them without arguments. */
  read(start?: number, end?: number): Readable & { recycle?(chunk: Buffer): void };
}

/** One blob of an export that is read once, in its own order (`docker save`, `podman save`). Not verified yet. */
export interface StreamedBlob {
  /** The path in the stream, for messages. */
  readonly name: string;
  /**
   * The digest of these very bytes that the path promises, or the `json` beside a legacy `<id>/layer.tar`; absent where
   * only the bytes tell.
   */
  readonly digest?: Digest;
  readonly size: number;
  readonly format: BlobFormat;
  readonly body: Readable;
}
