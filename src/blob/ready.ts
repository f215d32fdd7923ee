/**
 * Blobs that exist in full before they are sent: in memory, in a store that opens them at any offset, in a file of the
 * cache.
 */

import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { LayerError, layerError } from '../common/error.ts';
import { type Digest, digestOf } from '../oci/types.ts';
import type { BlobIdentity, ReadableBlob, StoredBlob } from './blob.ts';
import { fileStream } from './blocks.ts';

/** A blob whose digest and length are known, and all of whose bytes exist. */
interface ReadyBlob<Bytes extends Readable | Buffer = Readable | Buffer> extends ReadableBlob {
  readonly identity: BlobIdentity;
  read(start: number, end: number): Bytes;
}

/**
 * A blob of a store as it lies there; undefined when it can't be sent so (its size is not known, or it has no ranges)
 * and has to pass through the spool.
 */
export function readyBlob(
  stored: StoredBlob,
  digest: Digest,
  options: { readonly signal: AbortSignal },
): ReadyBlob | undefined {
  if (stored.bytes) return memoryBlob(stored.bytes, digest);
  if (!stored.seekable || stored.size === undefined) return undefined;
  const seekable = { size: stored.size, read: (start?: number, end?: number) => stored.read(start, end) };
  return stored.isRemote ? remoteBlob(seekable, digest) : seekableBlob(seekable, digest, options);
}

/**
 * Bytes in memory: a config, a manifest, a small layer. Rejects with LayerError for other bytes than the digest's,
 * before any is sent.
 */
export function memoryBlob(bytes: Buffer, digest: Digest): ReadyBlob<Buffer> {
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
    completed: async () => {
      verify();
      return identity;
    },
    read: (start, end) => bytes.subarray(start, end),
  };
}

/** A stored blob that is opened at any offset and whose size (bytes) is known. */
export type SeekableBlob = Pick<StoredBlob, 'read'> & Required<Pick<StoredBlob, 'size'>>;

/**
 * A blob straight from a store's file, without a copy: any chunk can be sent from the first moment on. Its bytes are
 * hashed beside the upload, by a separate reading that starts with the first `reach` or `completed`; a blob that the
 * registry has is never read. Both reject with LayerError once the bytes were found to be others than `digest` names.
 */
export function seekableBlob(
  stored: SeekableBlob,
  digest: Digest,
  options: { readonly signal: AbortSignal },
): ReadyBlob<Readable> {
  const identity = { digest, size: stored.size };
  let failure: unknown;
  let check: Promise<BlobIdentity> | undefined;
  const checked = (): Promise<BlobIdentity> => {
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
    completed: checked,
    read: (start, end) => (end > start ? stored.read(start, end) : Readable.from([])),
  };
}

/**
 * A blob that is read from another host, without a copy: any chunk can be sent from the first moment on, and is read
 * again when it has to be sent again. Its bytes are hashed as they are read in order; the last of them are returned
 * only when the digest is right, so that no registry can commit others. `reach` and `completed` reject with LayerError
 * once reading has failed.
 */
export function remoteBlob(stored: SeekableBlob, digest: Digest): ReadyBlob<Readable> {
  const { size } = stored;
  const identity = { digest, size };
  const hash = createHash('sha256');
  let hashed = 0;
  let failure: unknown;
  let isVerified = false;
  const take = (bytes: Buffer, at: number): void => {
    if (at > hashed || at + bytes.length <= hashed) return;
    hash.update(bytes.subarray(hashed - at));
    hashed = at + bytes.length;
  };
  const verify = async (): Promise<void> => {
    if (isVerified) return;
    // An upload that went on where an earlier process had come to has left out what came before.
    for (let at = hashed; at < size; at = hashed)
      for await (const bytes of stored.read(at, size) as AsyncIterable<Buffer>) take(bytes, hashed);
    if (isVerified) return;
    isVerified = true;
    expectDigest(`sha256:${hash.digest('hex')}`, digest, SERVED_WRONG);
  };
  const next = async (pieces: AsyncIterator<Buffer>, at: number): Promise<Buffer | undefined> => {
    try {
      if (failure !== undefined) throw failure;
      const { done, value } = await pieces.next();
      if (done) return undefined;
      take(value, at);
      if (at + value.length >= size) await verify();
      return value;
    } catch (cause) {
      failure ??= layerError(`reading the blob ${digest}`, cause);
      throw failure;
    }
  };
  async function* checked(start: number, end: number): AsyncGenerator<Buffer> {
    const input = stored.read(start, end);
    const pieces = (input as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
    try {
      // What is thrown in at the yield is the failure of the request that the bytes go to, not one of reading.
      for (let at = start, bytes = await next(pieces, at); bytes; bytes = await next(pieces, at)) {
        at += bytes.length;
        yield bytes;
      }
    } finally {
      input.destroy();
    }
  }
  const unlessFailed = async <T>(value: T): Promise<T> => {
    if (failure !== undefined) throw failure;
    return value;
  };
  return {
    identity,
    reach: () => unlessFailed({ available: size, ended: true }),
    completed: () => unlessFailed(identity),
    read: (start, end) => Readable.from(end > start ? checked(start, end) : [], { objectMode: false }),
  };
}

async function verify(stored: SeekableBlob, identity: BlobIdentity, signal: AbortSignal): Promise<BlobIdentity> {
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

function expectDigest(found: Digest, expected: Digest, remedy?: string): void {
  if (found !== expected) throw damaged(`the bytes of the blob ${expected} have the digest ${found}`, remedy);
}

const SERVED_WRONG =
  'the image is damaged in the registry that it is read from, or on its way from there: push it there again';

const damaged = (what: string, remedy = 'the image is damaged where it is kept: build, pull or save it again') =>
  new LayerError(what, { remedy });

/**
 * A complete file whose bytes were verified before: a compressed layer that the cache has restored. Throws when it is
 * not there.
 */
export async function cachedBlob(path: string, digest: Digest): Promise<ReadyBlob<Readable>> {
  const { size } = await stat(path);
  const identity = { digest, size };
  return {
    identity,
    reach: async () => ({ available: size, ended: true }),
    completed: async () => identity,
    read: (start, end) => fileStream(path, start, end),
  };
}
