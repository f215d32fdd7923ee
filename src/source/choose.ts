/** Choosing one image of several in an archive or layout: by what was asked for, never the first one that comes. */
import { MAX_ENTRIES, parseJson, readDocument } from '../oci/documents.ts';
import { ImageError } from '../oci/error.ts';
import { sameReference } from '../oci/reference.ts';
import { type Descriptor, type Digest, type Index, isDigest, MediaType } from '../oci/types.ts';
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
/** Names listed in a message; an archive of hundreds of images helps nobody in one line. */
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
  if (candidates.length === 0) throw new ImageError('Resolve', `${where} holds no image`);
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

/** The images that an `index.json` names. Attestations and what has no name beside named ones are not images to choose. */
export function candidatesOfIndex(index: Index): Candidate<Descriptor>[] {
  return index.manifests
    .map((item, position) => ({ item, key: item.digest, names: namesOf(item), position }))
    .filter(({ item }) => attestedBy(item) === undefined);
}

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
    config: Config,
    repoTags: texts(RepoTags ?? [], `RepoTags of ${what}`),
    layers: texts(Layers ?? [], `Layers of ${what}`),
    layerSources: new Map(
      Object.entries(LayerSources ?? {}).filter((pair): pair is [Digest, Descriptor] => isSource(pair)),
    ),
  };
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
  const names = [annotations?.[CONTAINERD_NAME], annotations?.[REF_NAME]];
  return names.filter((name) => name !== undefined && name !== '') as string[];
}
