/** What the bytes of a compressed layer are, told by reading all of them. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { PassThrough, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
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
  const blob = createHash('sha256');
  const tar = createHash('sha256');
  let size = 0;
  const counted = new PassThrough({ highWaterMark: READ_BYTES }).on('data', (piece: Buffer) => {
    blob.update(piece);
    size += piece.length;
  });
  const unpack = decompressor(compression);
  await pipeline(
    createReadStream(path, { highWaterMark: READ_BYTES }),
    counted,
    unpack,
    async (plain) => {
      for await (const piece of plain) tar.update(piece);
    },
    { signal },
  );
  // zlib ignores what follows the last gzip member, where stricter readers refuse the blob.
  const read = (unpack as Transform & { readonly bytesWritten: number }).bytesWritten;
  if (read !== size) throw new Error(`${size - read} bytes follow the end of the ${compression} data`);
  return { digest: `sha256:${blob.digest('hex')}`, size, diffId: `sha256:${tar.digest('hex')}` };
}

function decompressor(compression: LayerFormat['compression']): Transform {
  const options = { chunkSize: READ_BYTES };
  return compression === 'gzip' ? createGunzip(options) : createZstdDecompress(options);
}
