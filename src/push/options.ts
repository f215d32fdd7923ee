/**
 * What a push or a merge is asked to do, checked and typed. The action makes it from inputs, the terminal from flags.
 */

import { COMPRESSIONS } from '../blob/compress/compression.ts';
import { readRegularSync } from '../common/open-regular.ts';
import { parsePlatform } from '../oci/platforms.ts';
import { formatReference, parseReference, type Reference, withDefaultTag } from '../oci/reference.ts';
import { certificatesIn, MAX_CERTIFICATES_BYTES } from '../registry/http/trust.ts';
import {
  type Annotations,
  annotationsOf,
  booleanOf,
  bytesOf,
  checked,
  choiceOf,
  durationOf,
  expectImage,
  InputError,
  type InputName,
  linesOf,
  listOf,
  type RawInputs,
  wholeNumberOf,
} from './input-values.ts';

/** What every request has: where it goes, and how. */
export interface RequestOptions {
  /**
   * Every place that is written to, in the order of the inputs, each once; never empty. With a tag, without a digest;
   * by digest alone (`pushByDigest`) without a tag. The first one is what the `image` output names.
   */
  readonly destinations: readonly Reference[];
  /** Lines for the log about inputs that have no effect. */
  readonly notices: readonly string[];
  /** For the registry of the first destination; the others' are found in files. */
  readonly credentials: { readonly username: string; readonly password: string } | undefined;
  readonly engine: 'auto' | 'docker' | 'podman';
  readonly export: 'auto' | 'save' | 'store';
  /** `os/architecture[/variant]`; empty for all that are present. */
  readonly platforms: readonly string[];
  readonly annotations: Annotations;
  /** The largest request body, bytes. */
  readonly chunkSize: number | 'auto';
  /** Blobs uploaded at once. */
  readonly concurrency: number;
  readonly maxRetries: number;
  /** How long a registry that has answered before may be away, milliseconds. */
  readonly maxWait: number;
  readonly compression: 'gzip' | 'zstd';
  readonly compressionLevel: number | undefined;
  /** Compress layers again that come in another compression. */
  readonly forceCompression: boolean;
  /** Keep and use compressed layers (locally, and in the Actions cache when `remoteCache`). */
  readonly cache: boolean;
  readonly remoteCache: boolean;
  /** Images whose layers may be reused; undefined for the destination tags and `latest` beside them. */
  readonly cacheFrom: readonly Reference[] | undefined;
  /** Bytes. */
  readonly cacheMaxSize: number;
  readonly fallback: 'none' | 'engine';
  readonly insecure: boolean;
  /** Extra CA certificates, PEM text. */
  readonly ca: string | undefined;
  /** `false`: any certificate is accepted. */
  readonly tlsVerify: boolean;
  readonly dryRun: boolean;
  /** A folder of ours, the same in every run on this machine: spool and compressed layers lie in it. */
  readonly workDir: string;
  readonly env: NodeJS.ProcessEnv;
}

/** One image and where it goes. */
export interface ImageRequest {
  /**
   * An image name or ID, or a source with its transport prefix (`docker-archive:FILE`, `oci:DIR`,
   * `docker://REFERENCE`).
   */
  readonly image: string;
  /** Never empty. */
  readonly destinations: readonly Reference[];
}

export interface PushRequest extends RequestOptions {
  readonly kind: 'push';
  /** Never empty. With several, no tag moves before the manifests of all are there. */
  readonly images: readonly ImageRequest[];
  /** Manifests are put by digest, no tag moves. */
  readonly pushByDigest: boolean;
}

/** A reference to merge, or with `tagPrefix` every tag of a repository that begins with it. */
export interface MergePart {
  /** As it was written. */
  readonly text: string;
  /** Without tag and digest where there is a `tagPrefix`. */
  readonly reference: Reference;
  readonly tagPrefix?: string;
}

export interface MergeRequest extends RequestOptions {
  readonly kind: 'merge';
  /** Never empty; each is in a registry of a destination, and each destination in the registry of a part. */
  readonly parts: readonly MergePart[];
  /** Delete the tags that a `tagPrefix` matched. */
  readonly cleanup: boolean;
}

/** What the caller knows beside the inputs. */
export type Surroundings = Pick<RequestOptions, 'workDir' | 'env' | 'remoteCache'>;

/** Uploads beyond this only take memory from each other; docker's own maximum is far below. */
const MAX_CONCURRENCY = 64;
const MAX_RETRIES = 100;

const IMAGE_EXAMPLE = 'write for example image: registry.example.com/team/app:1.2';
const TAGS_EXAMPLE = 'write for example tags: registry.example.com/team/app:1.2';
const MERGE_EXAMPLE = 'write for example merge: registry.example.com/team/app:1.2-*';

/** Checks every input; nothing has been sent yet. Throws InputError for the first that can't be used. */
export function parseRequest(raw: RawInputs, surroundings: Surroundings): PushRequest | MergeRequest {
  const text = (name: InputName): string => (raw[name] ?? '').trim();
  const isMerge = text('merge') !== '';
  if (isMerge && text('image') !== '')
    throw new InputError(
      'merge',
      'image is set too, and a merge takes its images from the registry',
      'set one of them',
    );
  const pushByDigest = booleanOf('push-by-digest', text('push-by-digest'), false);
  const cleanup = booleanOf('merge-cleanup', text('merge-cleanup'), false);
  const fallback = choiceOf('fallback', text('fallback'), ['none', 'engine']);
  if (isMerge) {
    if (pushByDigest)
      throw new InputError('push-by-digest', 'a merge always writes tags', 'leave it out, or leave merge out');
    if (fallback === 'engine') throw new InputError('fallback', 'no engine can do a merge', 'write fallback: none');
    const { destinations, parts } = mergeOf(listOf(text('merge')), text('tags'));
    const unused = booleanOf('force-compression', text('force-compression'), false)
      ? ['force-compression: a merge takes its images byte for byte; not used']
      : [];
    const options = optionsOf(raw, destinations, unused, surroundings);
    expectIndexAnnotations(options.annotations);
    return { kind: 'merge', parts, cleanup, ...options };
  }
  if (cleanup)
    throw new InputError('merge-cleanup', 'there is no merge to clean up after', 'set merge, or leave it out');
  const images = imagesOf(linesOf(text('image')), listOf(text('tags')), pushByDigest);
  if (fallback === 'engine' && (pushByDigest || images.length > 1)) {
    const problem = pushByDigest ? 'push-by-digest' : 'several images all or nothing';
    throw new InputError('fallback', `the engine's own push can't push ${problem}`, 'write fallback: none');
  }
  const notices = [
    ...(pushByDigest ? ignoredTags(listOf(text('tags'))) : []),
    ...(fallback === 'engine' && images.some(({ image }) => IS_SOURCE.test(image)) ? [NO_FALLBACK] : []),
  ];
  const destinations = eachOnce(images.flatMap((image) => image.destinations));
  return { kind: 'push', images, pushByDigest, ...optionsOf(raw, destinations, notices, surroundings) };
}

/** The inputs that are the same for a push and a merge. */
function optionsOf(
  raw: RawInputs,
  destinations: readonly Reference[],
  notices: readonly string[],
  surroundings: Surroundings,
): RequestOptions {
  const text = (name: InputName): string => (raw[name] ?? '').trim();
  const compression = choiceOf('compression', text('compression'), ['gzip', 'zstd']);
  return {
    destinations,
    notices,
    credentials: credentials(text('username'), (raw.password ?? '').replace(/\r?\n$/, '')),
    engine: choiceOf('engine', text('engine'), ['auto', 'docker', 'podman']),
    export: choiceOf('export', text('export'), ['auto', 'save', 'store']),
    platforms: listOf(text('platforms')).map(platform),
    annotations: annotationsOf(text('annotations'), text('merge') === '' ? 'manifest' : 'index'),
    chunkSize: ['', 'auto'].includes(text('chunk-size')) ? 'auto' : bytesOf('chunk-size', text('chunk-size'), '95MB'),
    concurrency: wholeNumberOf('concurrency', text('concurrency') || '5', [1, MAX_CONCURRENCY]),
    maxRetries: wholeNumberOf('max-retries', text('max-retries') || '3', [0, MAX_RETRIES]),
    maxWait: durationOf('max-wait', text('max-wait') || '10m'),
    compression,
    compressionLevel: text('compression-level')
      ? wholeNumberOf('compression-level', text('compression-level'), COMPRESSIONS[compression].levels)
      : undefined,
    forceCompression: booleanOf('force-compression', text('force-compression'), false),
    cache: booleanOf('cache', text('cache'), true),
    cacheFrom: text('cache-from') ? listOf(text('cache-from')).map((one) => reference('cache-from', one)) : undefined,
    cacheMaxSize: bytesOf('cache-max-size', text('cache-max-size') || '2GiB', '2GiB'),
    fallback: choiceOf('fallback', text('fallback'), ['none', 'engine']),
    insecure: booleanOf('insecure', text('insecure'), false),
    ca: text('ca-file') ? certificates(text('ca-file')) : undefined,
    tlsVerify: booleanOf('tls-verify', text('tls-verify'), true),
    dryRun: booleanOf('dry-run', text('dry-run'), false),
    ...surroundings,
  };
}

function credentials(username: string, password: string): RequestOptions['credentials'] {
  if (username !== '' && password !== '') return { username, password };
  if (username === '' && password === '') return undefined;
  const [missing, present] =
    username === '' ? (['username', 'password'] as const) : (['password', 'username'] as const);
  throw new InputError(
    missing,
    `it is empty though ${present} is set`,
    'set both (is the secret defined for this workflow?), or neither after docker/login-action',
  );
}

function platform(text: string): string {
  checked('platforms', () => parsePlatform(text));
  return text;
}

const reference = (name: InputName, text: string): Reference => checked(name, () => parseReference(text));

/** Sources and IDs have no name to push to. */
const IS_SOURCE = /^(docker-archive|oci-archive|oci):|^docker:\/\//;
const IS_ID = /^(sha256:)?[0-9a-f]{64}$|^sha256:[0-9a-f]+$/;

/** Every image with its destinations. Throws InputError. */
function imagesOf(images: readonly string[], tags: readonly string[], byDigest: boolean): readonly ImageRequest[] {
  const [image, ...others] = [...new Set(images)];
  if (image === undefined) throw new InputError('image', 'it is missing', IMAGE_EXAMPLE);
  for (const one of [image, ...others]) {
    expectImage(one);
    if (tags.length === 0 && (IS_SOURCE.test(one) || IS_ID.test(one)))
      throw others.length === 0 ? nameless(one) : namelessOfSeveral(one);
  }
  if (others.length > 0) {
    if (tags.length > 0) {
      const problem = `image names ${others.length + 1} images, and each goes where its own name says`;
      throw new InputError('tags', problem, 'leave tags out (docker tag names an image), or push one image a step');
    }
    const named = [image, ...others].map((one) => ({ image: one, destination: destination('image', one, byDigest) }));
    // `app` and `app:latest` are one.
    const each = new Map(named.map((one) => [formatReference(one.destination), one]));
    return [...each.values()].map(({ image, destination }) => ({ image, destinations: [destination] }));
  }
  const [name, texts] = tags.length === 0 ? (['image', [image]] as const) : (['tags', tags] as const);
  return [{ image, destinations: eachOnce(texts.map((text) => destination(name, text, byDigest))) }];
}

/** What `fallback: engine` is for an image that no engine has. */
const NO_FALLBACK = 'fallback: engine has no effect: the image is not one of an engine, which could push it';

const nameless = (image: string): InputError =>
  new InputError('tags', `they are missing, and ${image} has no name to push to`, TAGS_EXAMPLE);

const namelessOfSeveral = (image: string): InputError =>
  new InputError(
    'image',
    `${image} has no name to push to, as each of several images must`,
    'push it in a step with tags',
  );

/** A place to push to. Throws InputError. */
function destination(name: InputName, text: string, byDigest = false): Reference {
  const parsed = reference(name, text);
  if (parsed.digest !== undefined) {
    throw new InputError(
      name,
      `${JSON.stringify(text)} has a digest, and a digest can't be pushed to`,
      'name a tag: registry.example.com/team/app:1.2 (for an image by digest, set tags)',
    );
  }
  const { tag: _, ...repository } = parsed;
  return byDigest ? repository : withDefaultTag(parsed);
}

const eachOnce = (references: readonly Reference[]): readonly Reference[] => [
  ...new Map(references.map((one) => [formatReference(one), one])).values(),
];

/** One line for all tags that `push-by-digest` does not write. */
function ignoredTags(tags: readonly string[]): readonly string[] {
  const ignored = tags.filter((text) => parseReference(text).tag !== undefined);
  return ignored.length === 0 ? [] : [`push-by-digest: no tag is written; ignored: ${ignored.join(', ')}`];
}

/** Throws InputError for annotations of manifests alone: those of a merge's parts are there already. */
function expectIndexAnnotations({ manifest, index }: Annotations): void {
  const key = Object.keys(manifest).find((one) => !Object.hasOwn(index, one));
  if (key === undefined) return;
  const problem = `manifest:${key} can't be set by a merge, which takes the manifests of its parts byte for byte`;
  throw new InputError(
    'annotations',
    problem,
    'write index: before the key (docker/metadata-action: DOCKER_METADATA_ANNOTATIONS_LEVELS: index)',
  );
}

/** What to merge, and where to. Throws InputError. */
function mergeOf(
  texts: readonly string[],
  tags: string,
): { destinations: readonly Reference[]; parts: readonly MergePart[] } {
  const destinations = eachOnce(listOf(tags).map((text) => destination('tags', text)));
  if (destinations.length === 0) throw new InputError('tags', 'they are missing, and merge needs them', TAGS_EXAMPLE);
  const parts = [...new Set(texts)].map(mergePart);
  const hosts = new Set(destinations.map(({ apiHost }) => apiHost));
  const partHosts = new Set(parts.map(({ reference: { apiHost } }) => apiHost));
  const outside = parts.find(({ reference: { apiHost } }) => !hosts.has(apiHost));
  if (outside) {
    const problem = `${outside.text} is in ${outside.reference.registry}, and no tag of tags is there`;
    throw new InputError('merge', problem, 'merge what is in the registries of tags');
  }
  const empty = destinations.find(({ apiHost }) => !partHosts.has(apiHost));
  if (empty) {
    const problem = `${formatReference(empty)} is in another registry than every reference of merge`;
    throw new InputError('tags', problem, `push the parts to ${empty.registry} too`);
  }
  return { destinations, parts };
}

function mergePart(written: string): MergePart {
  // As an image in a registry is written for `image`.
  const text = written.replace(/^docker:\/\//, '');
  if (!text.includes('*')) return { text, reference: withDefaultTag(reference('merge', text)) };
  const prefix = /^[^*]+:([^*:/@]+)\*$/.exec(text)?.[1];
  if (prefix === undefined)
    throw new InputError('merge', `${JSON.stringify(text)}: a * can only be the end of a tag`, MERGE_EXAMPLE);
  const { tag: tagPrefix, ...repository } = reference('merge', text.slice(0, -1));
  return { text, reference: repository, tagPrefix: tagPrefix! };
}

function certificates(path: string): string {
  try {
    return certificatesIn(readRegularSync(path, MAX_CERTIFICATES_BYTES)).join('\n');
  } catch (cause) {
    const { message, code } = cause as NodeJS.ErrnoException;
    const problem = code === undefined ? `${path} ${message}` : `${path} can't be read: ${message}`;
    throw new InputError('ca-file', problem, 'name a file of certificates in PEM form, or one in DER form', cause);
  }
}
