/** What the bytes of a compressed layer are, told by reading all of them. */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { Transform } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import type { Digest } from '../image/oci.ts';
import type { LayerFormat } from './known-layers.ts';

/** Large enough that a layer of 1 GB is a thousand reads. */
const READ_BYTES = 1024 * 1024;

export interface BlobFacts {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
}

/** Digest and size (bytes) of a file. Throws what reading it throws. */
export async function inspectBlob(path: string, signal?: AbortSignal): Promise<BlobFacts> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const piece of createReadStream(path, { highWaterMark: READ_BYTES, signal })) {
    hash.update(piece);
    size += piece.length;
  }
  return { digest: `sha256:${hash.digest('hex')}`, size };
}

/**
 * Digest, size (bytes) and diffID of a compressed layer in a file: the diffID is computed, so nobody needs to be believed.
 * config.md, section Layer DiffID. Throws when the file can't be read or is not wholly of this compression.
 */
export async function inspectLayer(
  path: string,
  compression: LayerFormat['compression'],
  signal?: AbortSignal,
): Promise<BlobFacts & { readonly diffId: Digest }> {
  const facts = await inspectBlob(path, signal);
  const tar = createHash('sha256');
  let at = 0;
  do {
    const read = await unpack(path, at, decompressor(compression), tar, signal);
    if (read === 0) throw new Error(`the ${compression} data has no end`);
    at += read;
  } while (at < facts.size);
  return { ...facts, diffId: `sha256:${tar.digest('hex')}` };
}

type Decompressor = Transform & { readonly bytesWritten: number };

/**
 * Decompresses a file from an offset into a hash. Resolves to the bytes that were taken in: Node's zstd stops after a frame, and
 * its gunzip, which reads all members, at anything else, so whatever follows must be looked at again from there.
 */
async function unpack(path: string, at: number, into: Decompressor, hash: Hash, signal?: AbortSignal): Promise<number> {
  const source = createReadStream(path, { start: at, highWaterMark: READ_BYTES, signal });
  source.on('error', (error) => into.destroy(error));
  try {
    for await (const piece of source.pipe(into)) hash.update(piece);
    return into.bytesWritten;
  } finally {
    source.destroy();
  }
}

function decompressor(compression: LayerFormat['compression']): Decompressor {
  const options = { chunkSize: READ_BYTES };
  return compression === 'gzip' ? createGunzip(options) : createZstdDecompress(options);
}
