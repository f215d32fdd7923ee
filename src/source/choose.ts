/** Choosing one image of several in an archive or layout: by what was asked for, never the first one that comes. */

import { posix } from 'node:path';
import { ImageError } from '../common/error.ts';
import { leadsOut } from '../common/platform.ts';
import { MAX_ENTRIES, parseJson, readDocument } from '../oci/documents.ts';
import { sameReference } from '../oci/reference.ts';
import {
  type Descriptor,
  type Digest,
  type Index,
  isDigest,
  isIndexType,
  isManifestType,
  isSchema1Type,
  MediaType,
} from '../oci/types.ts';
import { attestedBy } from '../oci/walk.ts';

/** One image that can be chosen. */
export interface Candidate<T> {
  readonly item: T;
  /** Two candidates with the same key are the same image under two names. */
  readonly key: string;
  readonly names: readonly string[];
  /** Its place in the file's own list, for skopeo's `@N`. */
  readonly position: number;
}

/** One image of a `manifest.json` (moby, image/tarexport: the docker-archive format). */
export interface ListedImage {
  readonly config: string;
  readonly repoTags: readonly string[];
  readonly layers: readonly string[];
  /** Layers whose bytes are elsewhere (Windows base layers), by diffID. */
  readonly layerSources: ReadonlyMap<Digest, Descriptor>;
}

/** image-spec annotations.md, "Pre-Defined Annotation Keys". */
const REF_NAME = 'org.opencontainers.image.ref.name';
/** containerd's full name of an image, which docker writes beside the former. */
const CONTAINERD_NAME = 'io.containerd.image.name';
/** The annotations that name an image in a layout. */
export const IMAGE_NAMES: readonly string[] = [CONTAINERD_NAME, REF_NAME];
/** Names listed in a message. */
const MAX_LISTED = 20;

/**
 * The images that `ref` means: a full or short name, a tag, a digest, `@N`, or none for all that there are. One image
 * under several names counts once.
 */
export function matching<T>(candidates: readonly Candidate<T>[], ref: string | undefined): Candidate<T>[] {
  const place = /^@(\d+)$/.exec(ref ?? '')?.[1];
  const fits = candidates.filter(({ names, key, position }) => {
    if (ref === undefined || key === ref) return true;
    return place === undefined
      ? names.some((name) => name === ref || sameReference(name, ref))
      : position === Number(place);
  });
  return fits.filter(({ key }, position) => fits.findIndex((other) => other.key === key) === position);
}

/** The one image that `ref` means. Throws ImageError that lists what there is, when it means none or several. */
export function chooseOne<T>(candidates: readonly Candidate<T>[], ref: string | undefined, where: string): T {
  const fits = matching(candidates, ref);
  if (fits.length === 1) return fits[0]!.item;
  if (candidates.length === 0) {
    throw new ImageError('Resolve', `${where} holds no image`, {
      remedy: 'index.json or manifest.json must name a manifest or an index of an image or artifact',
    });
  }
  const names = candidates.flatMap(({ names, key, position }) =>
    names.length > 0 ? names : [isDigest(key) ? key : `@${position}`],
  );
  const listed = [...new Set(names)].slice(0, MAX_LISTED).join(', ');
  const problem =
    fits.length > 1 ? `holds several images${ref === undefined ? '' : ` called ${ref}`}` : `holds no image ${ref}`;
  throw new ImageError('Resolve', `${where} ${problem}; it holds ${listed}`, {
    remedy: 'choose one by its name after the file, as in docker-archive:FILE:name:tag or oci:DIR:tag',
  });
}

/**
 * The images and artifacts that an `index.json` names. Not among them: attestations, lists of referrers, and entries of
 * other types, which image-layout.md allows (its own example has one of application/xml) and consumers have to ignore.
 */
export function candidatesOfIndex(index: Index): Candidate<Descriptor>[] {
  return index.manifests
    .map((item, position) => ({ item, key: item.digest, names: namesOf(item), position }))
    .filter(({ item }) => isImageDocument(item) && attestedBy(item) === undefined && fallbackTags([item]).length === 0);
}

/** Whether an entry of `index.json` is a manifest or an index. */
export const isImageDocument = ({ mediaType }: Descriptor): boolean =>
  isManifestType(mediaType) || isIndexType(mediaType) || isSchema1Type(mediaType);

/**
 * The lists of referrers among the entries of an `index.json`: indexes that are named like the fallback tag,
 * `sha256-<hex>`.
 */
export const fallbackTags = (entries: readonly Descriptor[]): Descriptor[] =>
  entries.filter(
    (entry) => isIndexType(entry.mediaType) && namesOf(entry).some((name) => /(^|:)sha256-[0-9a-f]{64}$/.test(name)),
  );

/** The images of a `manifest.json`. */
export const candidatesOfList = (list: readonly ListedImage[]): Candidate<ListedImage>[] =>
  list.map((item, position) => ({ item, key: item.config, names: item.repoTags, position }));

/** Reads the `index.json` of a layout. Throws ImageError. */
export function readIndex(bytes: Buffer): Index {
  const document = readDocument(bytes, 'index.json', MediaType.ociIndex);
  if (document.kind === 'index') return document.index;
  throw new ImageError('Archive', 'index.json is not an image index');
}

/** Reads a `manifest.json`. Throws ImageError. */
export function readArchiveList(bytes: Buffer): ListedImage[] {
  const value = parseJson(bytes, 'manifest.json');
  if (!Array.isArray(value)) throw new ImageError('Archive', 'manifest.json is not a list of images');
  if (value.length > MAX_ENTRIES) throw new ImageError('Archive', `manifest.json names ${value.length} images`);
  return value.map((entry, position) => listedImage(entry, `image ${position} of manifest.json`));
}

function listedImage(value: unknown, what: string): ListedImage {
  const { Config, RepoTags, Layers, LayerSources } = (value ?? {}) as Record<string, unknown>;
  if (typeof Config !== 'string' || Config === '') throw new ImageError('Archive', `${what} names no config`);
  return {
    // skopeo's own archives and `docker load` accept `./` before the names
    // (https://github.com/containers/skopeo/issues/999).
    config: archivePath(Config),
    repoTags: texts(RepoTags ?? [], `RepoTags of ${what}`),
    layers: texts(Layers ?? [], `Layers of ${what}`).map(archivePath),
    layerSources: new Map(
      Object.entries(LayerSources ?? {}).filter((pair): pair is [Digest, Descriptor] => isSource(pair)),
    ),
  };
}

/** A path of `manifest.json` without `./`. Throws ImageError for one that leads out of the archive. */
function archivePath(path: string): string {
  if (!leadsOut(path)) return cleanName(path);
  throw new ImageError('Archive', `manifest.json names ${JSON.stringify(path)}, which leads out of the archive`);
}

function isSource([key, value]: [string, unknown]): boolean {
  const { mediaType, digest, size } = (value ?? {}) as Record<string, unknown>;
  return isDigest(key) && isDigest(digest) && typeof mediaType === 'string' && Number.isSafeInteger(size);
}

function texts(value: unknown, what: string): string[] {
  if (Array.isArray(value) && value.length <= MAX_ENTRIES && value.every((text) => typeof text === 'string'))
    return value;
  throw new ImageError('Archive', `${what} is not a list of names`);
}

function namesOf({ annotations }: Descriptor): string[] {
  const names = IMAGE_NAMES.map((key) => annotations?.[key]);
  return names.filter((name) => name !== undefined && name !== '') as string[];
}

// What the names in an image archive mean (docker save, podman save, OCI layout), and which are refused.

/** What a regular file of an archive is, told by its name alone. */
type EntryRole =
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
