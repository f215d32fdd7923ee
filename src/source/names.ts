/** What the names in an image archive mean (docker save, podman save, OCI layout), and which are refused. */

import { posix } from 'node:path';
import { ImageError } from '../oci/error.ts';
import type { Digest } from '../oci/types.ts';

/** What a regular file of an archive is, told by its name alone. */
export type EntryRole =
  /** Named by the digest of its own bytes: `blobs/sha256/<hex>` of a layout, `<hex>.tar` of podman (a diffID then). */
  | { readonly role: 'blob'; readonly digest: Digest }
  /** `<hex>.json`: the config of docker's and podman's archives. */
  | { readonly role: 'config'; readonly digest: Digest }
  /** `<v1 ID>/layer.tar`, which says nothing of its digest, and the `json` before it. */
  | { readonly role: 'layer' | 'layer-json'; readonly folder: string }
  /** `index.json` or `manifest.json`. */
  | { readonly role: 'list' }
  | { readonly role: 'other' };

/**
 * Tells what a file is by its clean name. image-layout.md for blobs; moby's tarexport and containers/image for the
 * rest.
 */
export function roleOf(name: string): EntryRole {
  const blob = /^blobs\/sha256\/([0-9a-f]{64})$/.exec(name) ?? /^([0-9a-f]{64})\.tar$/.exec(name);
  if (blob) return { role: 'blob', digest: `sha256:${blob[1]!}` };
  const config = /^([0-9a-f]{64})\.json$/.exec(name);
  if (config) return { role: 'config', digest: `sha256:${config[1]!}` };
  const json = /^([0-9a-f]{64})\/json$/.exec(name);
  if (json) return { role: 'layer-json', folder: json[1]! };
  const layer = /^([^/]+)\/layer\.tar$/.exec(name);
  if (layer) return { role: 'layer', folder: layer[1]! };
  return { role: name === 'index.json' || name === 'manifest.json' ? 'list' : 'other' };
}

/** A name without `./` and a closing slash. Throws ImageError for one that leads out of the archive. */
export function cleanName(name: string): string {
  if (name.startsWith('/')) throw hostile(`an absolute name in it: ${JSON.stringify(name)}`);
  if (name.includes('\0')) throw hostile(`a name with a zero byte in it: ${JSON.stringify(name)}`);
  if (name.split('/').includes('..')) throw hostile(`a name that leads out of it: ${JSON.stringify(name)}`);
  return posix.normalize(`./${name}`).replace(/\/$/, '');
}

/**
 * The clean name that a link means: a symlink's from its own folder, a hard link's from the top. Throws ImageError when
 * it leads out.
 */
export function cleanTarget(name: string, type: 'symlink' | 'link', target: string): string {
  const path = posix.normalize(type === 'symlink' ? posix.join(posix.dirname(name), target) : target);
  if (target.startsWith('/') || target.includes('\0') || path === '..' || path.startsWith('../')) {
    throw hostile(`a link that leads out of it: ${JSON.stringify(name)} to ${JSON.stringify(target)}`);
  }
  return path.replace(/\/$/, '');
}

const hostile = (what: string): ImageError =>
  new ImageError('Archive', `the archive has ${what}`, {
    remedy: 'no container engine writes this: do not trust the file',
  });
