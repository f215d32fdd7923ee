/**
 * What an image is to a push: found first (cheap, nothing is read), opened only if something must move.
 * A source is a store, which opens any blob at any offset, or a stream, which has its entries in its own order.
 */

import type { StoredBlob, StreamedBlob } from '../blob/blob.ts';
import type { ImageTree } from '../oci/image-tree.ts';
import type { Digest } from '../oci/types.ts';

/** An image that was found by name, with all that is known before its bytes are read. */
export interface FoundImage {
  /** As the user asked for it. */
  readonly name: string;
  /**
   * The image's ID as its engine shows it; for a file source the digest of its config (of its root when it has none).
   */
  readonly imageId: Digest;
  /** The diffIDs of the layers from the base up, where the engine reports them (for its own platform). */
  readonly diffIds?: readonly Digest[];
  /**
   * The manifest or index that the engine itself keeps, byte for byte what a push of it puts. Absent for classic
   * stores.
   */
  readonly root?: Digest;
  /** The engine that has it; absent for a file source. */
  readonly engine?: 'docker' | 'podman';
  /**
   * All documents of the image as the engine's own store has them, so that no registry need be asked for them;
   * undefined where the store can't be read or lacks some. Throws the signal's reason.
   */
  documents?(signal: AbortSignal): Promise<ImageTree | undefined>;
  /** The store that `documents` came from; undefined when it can't be read. */
  openStore?(options: OpenOptions): Promise<StoreSource | undefined>;
  /** Opens the bytes. Throws ImageError. The caller closes what it gets. */
  open(options: OpenOptions): Promise<Source>;
  /**
   * The engine's own push of this image under `registry/repository:tag`, for the fallback; absent for a file source.
   * Returns the digest that the engine reports. Throws ImageError (step Fallback).
   */
  push?(reference: string, options: EnginePush): Promise<Digest>;
  /** Ends what was opened to find the image and to read its documents: the engine's store, its helper. */
  close?(): Promise<void>;
}

export interface EnginePush {
  /** Plain HTTP or an unknown certificate is fine. */
  readonly insecure: boolean;
  /** Variables for the engine's command in place of its own: where the credentials are. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly signal: AbortSignal;
  readonly debug: (line: string) => void;
}

export interface OpenOptions {
  readonly signal: AbortSignal;
  /** A line for the debug log: why a store was not used, what is read. */
  readonly debug: (line: string) => void;
  /** A line of the log: platforms left out, how the store is read. */
  readonly notice: (line: string) => void;
  /** The engine's own store gave wrong bytes: this time by its `save`. */
  readonly withoutStore?: boolean;
}

export type Source = StoreSource | StreamSource;

/** A place that opens any blob in any order: an OCI layout folder, a tar file on disk, an engine's own files. */
export interface StoreSource {
  readonly kind: 'store';
  /** For the log: "OCI layout ./dist", "content store of Docker". */
  readonly description: string;
  readonly tree: ImageTree;
  /** Opens a layer or another blob by the digest it has in the tree; undefined when it is not there. */
  open(digest: Digest): Promise<StoredBlob | undefined>;
  close(): Promise<void>;
}

/** Entries in an order of their own, once: what `docker save` and `podman save` write. */
export interface StreamSource {
  readonly kind: 'stream';
  readonly description: string;
  /**
   * The blobs that may be layers, in the stream's order. A body is read to its end or destroyed (skipped) before the
   * next one comes. Small documents (JSON) are kept aside for `tree`. Ends when the stream ends, after the exporter's
   * exit code was seen to be 0. Throws ImageError.
   */
  blobs(): AsyncIterable<StreamedBlob>;
  /** The image as far as its documents have come; undefined as long as one is missing that may still come. */
  tree(): ImageTree | undefined;
  /** Ends the export, its child process too, whether or not it is through. */
  close(): Promise<void>;
}
