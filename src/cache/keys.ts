/**
 * Names of entries in the Actions cache. Keys match by prefix, so every prefix ends with a separator; a key's content never
 * changes. https://docs.github.com/actions/reference/workflows-and-actions/dependency-caching#cache-key-matching
 */
import { createHash } from 'node:crypto';
import type { Digest } from '../image/oci.ts';
import type { LayerFormat } from './known-layers.ts';

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
  const hex = diffId.slice('sha256:'.length);
  return { key: `chunked-push-layer-v1-${formatName(format)}-${hex}`, file: `layer-${hex}` };
}

/** What the keys of all pointer entries of an image repository begin with, and the name of the file in them. */
export function pointerPrefix(format: LayerFormat, repository: string): EntryName {
  const hash = shortHash(repository);
  return { key: `chunked-push-pointers-v1-${formatName(format)}-${hash}-`, file: `pointers-${hash}` };
}

/** The pointer entry of an image repository with a certain content. */
export function pointerEntry(format: LayerFormat, repository: string, content: string): EntryName {
  const { key, file } = pointerPrefix(format, repository);
  return { key: key + shortHash(content), file };
}

const shortHash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, HASH_DIGITS);
