/** Blobs that exist in full before they are sent: small ones in memory, large ones in a store's own files. Structurally BlobBodies (registry/body.ts). */

import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { type Digest, digestOf } from '../oci/types.ts';
import { fileStream } from './blocks.ts';
import { LayerError, layerError } from './compress/error.ts';
import type { Identity, Reach } from './writer.ts';

/** A blob whose digest and length (bytes) are known, and all of whose bytes are there. */
export interface ReadyBody<Bytes extends Readable | Buffer = Readable | Buffer> {
  readonly identity: Identity;
  reach(bytes: number): Promise<Reach>;
  /** Resolves when the bytes were seen to be those of the digest. Rejects with LayerError. */
  whole(): Promise<Identity>;
  read(start: number, end: number): Bytes;
}

/** Bytes in memory: a config, a manifest, a small layer. Rejects with LayerError for other bytes than the digest's, before any is sent. */
export function memoryBody(bytes: Buffer, digest: Digest): ReadyBody<Buffer> {
  const identity = { digest, size: bytes.length };
  let found: Digest | undefined;
  const verify = (): void => {
    found ??= digestOf(bytes);
    expectDigest(found, digest);
  };
  return {
    identity,
    reach: async () => {
      verify();
      return { available: bytes.length, ended: true };
    },
    whole: async () => {
      verify();
      return identity;
    },
    read: (start, end) => bytes.subarray(start, end),
  };
}

/** A blob of a store that opens it at any offset. */
export interface Stored {
  /** Bytes. */
  readonly size: number;
  /** The bytes [start, end), all of them without arguments. */
  read(start?: number, end?: number): Readable & { recycle?(chunk: Buffer): void };
}

/**
 * A blob straight from a store's file, without a copy: any chunk can be sent from the first moment on. Its bytes are hashed
 * beside the upload, by a reading of their own that starts with the first `reach` or `whole`; a blob that the registry has is
 * never read. Both reject with LayerError once the bytes were found to be others than `digest` names.
 */
export function storedBody(
  stored: Stored,
  digest: Digest,
  options: { readonly signal: AbortSignal },
): ReadyBody<Readable> {
  const identity = { digest, size: stored.size };
  let failure: unknown;
  let check: Promise<Identity> | undefined;
  const checked = (): Promise<Identity> => {
    if (check) return check;
    check = verify(stored, identity, options.signal);
    check.catch((cause) => {
      failure = cause;
    });
    return check;
  };
  return {
    identity,
    reach: async () => {
      void checked();
      if (failure !== undefined) throw failure;
      return { available: stored.size, ended: true };
    },
    whole: checked,
    read: (start, end) => (end > start ? stored.read(start, end) : Readable.from([])),
  };
}

async function verify(stored: Stored, identity: Identity, signal: AbortSignal): Promise<Identity> {
  const what = `reading the blob ${identity.digest}`;
  const hash = createHash('sha256');
  let size = 0;
  try {
    signal.throwIfAborted();
    const input = stored.read();
    const cancel = () => input.destroy(layerError(`${what} was cancelled`, signal.reason));
    signal.addEventListener('abort', cancel, { once: true });
    try {
      for await (const chunk of input as AsyncIterable<Buffer>) {
        hash.update(chunk);
        size += chunk.length;
        input.recycle?.(chunk);
      }
    } finally {
      signal.removeEventListener('abort', cancel);
    }
  } catch (cause) {
    throw layerError(what, cause);
  }
  if (size !== identity.size)
    throw damaged(`the blob ${identity.digest} has ${size} bytes, but its descriptor says ${identity.size}`);
  expectDigest(`sha256:${hash.digest('hex')}`, identity.digest);
  return identity;
}

function expectDigest(found: Digest, expected: Digest): void {
  if (found !== expected) throw damaged(`the bytes of the blob ${expected} have the digest ${found}`);
}

const damaged = (what: string): LayerError =>
  new LayerError(what, { remedy: 'the image is damaged where it is kept: build, pull or save it again' });

/** A blob that lies in a file of its own, whole and verified: a compressed layer that the cache gave back. */

/** A body (registry/body.ts) over a complete file whose bytes are known to have this digest. */
export async function fileBody(path: string, digest: Digest) {
  const { size } = await stat(path);
  const identity = { digest, size };
  return {
    identity,
    reach: async () => ({ available: size, ended: true }),
    whole: async () => identity,
    read: (start: number, end: number): Readable => fileStream(path, start, end),
  };
}
