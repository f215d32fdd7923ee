/** What the bytes of a compressed layer are, found by reading all of them. */

import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { Transform } from 'node:stream';
import { finished } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import type { Digest } from '../oci/types.ts';
import type { LayerFormat } from './known-layers.ts';

/** Large enough that a layer of 1 GB is a thousand reads. */
const READ_BYTES = 1024 * 1024;

interface BlobFacts {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
}

/** Digest and size (bytes) of a file. Throws what reading it throws. */
export async function inspectBlob(path: string, signal?: AbortSignal): Promise<BlobFacts> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES, signal })) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { digest: `sha256:${hash.digest('hex')}`, size };
}

/**
 * Digest, size (bytes) and diffID of a compressed layer in a file: the diffID is computed, so nothing has to be
 * believed. config.md, section Layer DiffID. Throws when the file can't be read or is not completely of this
 * compression.
 */
export async function inspectLayer(
  path: string,
  compression: LayerFormat['compression'],
  signal?: AbortSignal,
): Promise<BlobFacts & { readonly diffId: Digest }> {
  const blob = createHash('sha256');
  const tar = createHash('sha256');
  let size = 0;
  let member: Member | undefined;
  for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES, signal })) {
    blob.update(chunk);
    size += chunk.length;
    member = await unpack(chunk, member ?? new Member(compression, tar), () => new Member(compression, tar));
  }
  if (!member) throw new Error('the file is empty');
  await member.end();
  return { digest: `sha256:${blob.digest('hex')}`, size, diffId: `sha256:${tar.digest('hex')}` };
}

/**
 * Feeds a chunk to a member and what the member leaves of it to new ones. Resolves to the member that is still open.
 */
async function unpack(chunk: Buffer, open: Member, next: () => Member): Promise<Member> {
  let member = open;
  let rest = chunk.subarray(await member.write(chunk));
  while (rest.length > 0) {
    await member.end();
    member = next();
    const taken = await member.write(rest);
    if (taken === 0) throw new Error('other data follows the compressed data');
    rest = rest.subarray(taken);
  }
  return member;
}

/**
 * One run of a decompressor. Node's zstd stops after a frame when more follows in the same write, and its gunzip, which
 * goes on to the next member, at anything that is none: both leave the rest, which the caller has to look at.
 */
class Member {
  readonly #stream: Transform & { readonly bytesWritten: number };
  readonly #ended: Promise<void>;
  #written = 0;
  #stopped = false;

  constructor(compression: LayerFormat['compression'], output: Hash) {
    const options = { chunkSize: READ_BYTES };
    this.#stream = compression === 'gzip' ? createGunzip(options) : createZstdDecompress(options);
    this.#stream.on('data', (chunk) => output.update(chunk));
    this.#ended = finished(this.#stream, { writable: false });
    this.#ended.catch(() => {});
  }

  /** Resolves to how many of the bytes were taken in. Throws when they are not of this compression. */
  async write(bytes: Buffer): Promise<number> {
    const before = this.#written;
    const done = new Promise<void>((resolve) => this.#stream.write(bytes, () => resolve()));
    await Promise.race([done, this.#ended]);
    if (this.#stream.errored) throw this.#stream.errored;
    this.#written = this.#stream.bytesWritten;
    this.#stopped = this.#written - before < bytes.length;
    return this.#written - before;
  }

  /** Throws when the data is not complete. */
  async end(): Promise<void> {
    if (!this.#stopped) this.#stream.end();
    await this.#ended;
    this.#stream.destroy();
  }
}
