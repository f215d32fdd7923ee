/** Known layers: which compressed blob stands for a layer. A hint, never a fact: it is checked before each use. */

import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { Transform } from 'node:stream';
import { finished } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { isFields } from '../oci/documents.ts';
import { type Descriptor, type Digest, hexOf, isDigest, MediaType } from '../oci/types.ts';

/** A layer by the digest of its uncompressed tar, and the compressed blob that was made of it. */
export interface KnownLayer {
  /** Of a layer that came compressed, and was never unpacked: the digest of the blob itself. */
  readonly diffId: Digest;
  readonly descriptor: Descriptor;
  /**
   * `host/name`: where the blob was pushed to, so that other repositories of that registry can mount it. The newest
   * first.
   */
  readonly repositories?: readonly string[];
}

/** How layers are compressed; blobs of other settings are kept apart. */
export interface LayerFormat {
  readonly compression: 'gzip' | 'zstd';
  readonly level: number;
}

/** An image has at most 127 layers; this is more than a dozen images' worth, and 500 KB as JSON. */
export const MAX_KNOWN_LAYERS = 2000;

/** Bytes of a pointer document that are read at most: the longest one that `formatKnownLayers` writes is half of it. */
export const MAX_POINTER_BYTES = 1024 * 1024;

/** More than mounts are tried from, and few enough that a document of all layers stays below its limit. */
const MAX_REPOSITORIES = 4;

/** `host[:port]/name` as the distribution-spec allows names. */
const REPOSITORY = /^[A-Za-z0-9[][\w.:[\]-]*(?:\/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)+$/;
const MAX_REPOSITORY_LENGTH = 128;

/** No registry takes a larger layer, and no disk of a runner holds one, bytes. */
const MAX_LAYER_BYTES = 2 ** 43;

const COMPRESSED_LAYER_TYPES: ReadonlySet<unknown> = new Set([
  MediaType.ociLayerGzip,
  MediaType.ociLayerZstd,
  MediaType.dockerLayerGzip,
]);

/** Whether a blob of this media type may be in a pointer document. */
export const isCompressedLayerType = (mediaType: string): boolean => COMPRESSED_LAYER_TYPES.has(mediaType);

/** The JSON text of a pointer document: known layers in the order given, at most MAX_KNOWN_LAYERS of them. */
export function formatKnownLayers(layers: readonly KnownLayer[]): string {
  const rows = layers.slice(0, MAX_KNOWN_LAYERS).map(({ diffId, descriptor, repositories = [] }) => {
    const { mediaType, digest, size } = descriptor;
    const named = repositories.filter(isRepository).slice(0, MAX_REPOSITORIES);
    return { diffId, mediaType, digest, size, ...(named.length > 0 ? { repositories: named } : {}) };
  });
  return JSON.stringify({ version: 1, layers: rows });
}

/**
 * Reads a pointer document that anyone may have written. Rows that are not exactly a layer (digests, size in bytes,
 * media type of a compressed layer) are left out; a text that is not such a document at all returns no rows.
 */
export function parseKnownLayers(text: string): KnownLayer[] {
  if (text.length > MAX_POINTER_BYTES) return [];
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    return [];
  }
  const rows = isFields(document) && document.version === 1 ? document.layers : undefined;
  if (!Array.isArray(rows)) return [];
  return rows.slice(0, MAX_KNOWN_LAYERS).flatMap((row: unknown) => knownLayer(row) ?? []);
}

function knownLayer(row: unknown): KnownLayer | undefined {
  if (!isFields(row)) return undefined;
  const { diffId, mediaType, digest, size } = row;
  const sound = isDigest(diffId) && isDigest(digest) && COMPRESSED_LAYER_TYPES.has(mediaType) && isLayerSize(size);
  if (!sound) return undefined;
  const named = Array.isArray(row.repositories) ? row.repositories.filter(isRepository).slice(0, MAX_REPOSITORIES) : [];
  const layer = { diffId, descriptor: { mediaType: mediaType as string, digest, size } };
  return named.length > 0 ? { ...layer, repositories: named } : layer;
}

const isRepository = (name: unknown): name is string =>
  typeof name === 'string' && name.length <= MAX_REPOSITORY_LENGTH && REPOSITORY.test(name);

const isLayerSize = (size: unknown): size is number =>
  Number.isSafeInteger(size) && (size as number) > 0 && (size as number) <= MAX_LAYER_BYTES;

/**
 * The newer layers first, then the older ones whose diffID they do not name; of the same blob the repositories of both.
 */
export function mergeKnownLayers(newer: readonly KnownLayer[], older: readonly KnownLayer[]): KnownLayer[] {
  const merged = new Map<Digest, KnownLayer>();
  for (const layer of [...newer, ...older]) {
    const known = merged.get(layer.diffId);
    if (!known) merged.set(layer.diffId, layer);
    else if (known.descriptor.digest === layer.descriptor.digest) {
      const repositories = new Set([...(known.repositories ?? []), ...(layer.repositories ?? [])]);
      if (repositories.size > 0) merged.set(layer.diffId, { ...known, repositories: [...repositories] });
    }
  }
  return [...merged.values()];
}

// Names of entries in the Actions cache. Keys match by prefix, so every prefix ends with a separator; a key's content
// never changes.
// https://docs.github.com/actions/reference/workflows-and-actions/dependency-caching#cache-key-matching

/** 32 hex digits of a SHA-256: enough that two names never share it, and the key stays far below the 512 allowed. */
const HASH_DIGITS = 32;

/** One entry of the cache: its key, and the name of the one file in it. The name is part of the entry's version. */
export interface EntryName {
  readonly key: string;
  readonly file: string;
}

/** `gzip-6`: the part of every name that keeps compression settings apart. */
export const formatName = ({ compression, level }: LayerFormat): string => `${compression}-${level}`;

/** The entry of a compressed layer, by the digest of its uncompressed tar. */
export function layerEntry(format: LayerFormat, diffId: Digest): EntryName {
  const hex = hexOf(diffId);
  return { key: `chunked-push-layer-v1-${formatName(format)}-${hex}`, file: `layer-${hex}` };
}

/**
 * What the keys of all pointer entries of a registry begin with, and the name of the file in them. `repository`:
 * `host/name`.
 */
export function registryPrefix(format: LayerFormat, repository: string): EntryName {
  const hash = shortHash(repository.slice(0, repository.indexOf('/')));
  return { key: `chunked-push-pointers-v2-${formatName(format)}-${hash}-`, file: `pointers-${hash}` };
}

/** The same of an image repository: jobs that run at the same time each leave an entry, and none hides another's. */
export function pointerPrefix(format: LayerFormat, repository: string): EntryName {
  const { key, file } = registryPrefix(format, repository);
  return { key: `${key}${shortHash(repository)}-`, file };
}

/** The pointer entry of an image repository with a certain content. */
export function pointerEntry(format: LayerFormat, repository: string, content: string): EntryName {
  const { key, file } = pointerPrefix(format, repository);
  return { key: key + shortHash(content), file };
}

const shortHash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, HASH_DIGITS);

// What the bytes of a compressed layer are, found by reading all of them: the check before a known layer is believed.

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
