/** The parts of a merge: images that lie in registries, read until all are served, and the index that they become. */

import pLimit from 'p-limit';
import { untilAborted } from '../common/async.ts';
import { PushError } from '../common/error.ts';
import { MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_KEPT_BYTES, readConfig, readDocument } from '../oci/documents.ts';
import { isImageEntry, mergeEntries, type PartOfIndex, uniqueEntries } from '../oci/merge.ts';
import { formatPlatform, parsePlatform, platformKey } from '../oci/platforms.ts';
import { formatReference } from '../oci/reference.ts';
import { type Descriptor, type Digest, isDigest, isImageConfigType, type Manifest } from '../oci/types.ts';
import { configPlatform } from '../oci/walk.ts';
import type { Repository } from '../registry/repository.ts';
import type { SharedContext } from './context.ts';
import type { MergePart, MergeRequest } from './options.ts';

/** A repository that parts are read from. */
interface PartRepository {
  readonly host: string;
  /** `registry/repository`. */
  readonly name: string;
  readonly repository: Repository;
}

/** One image or index to merge. */
interface PartReference extends PartRepository {
  /** A tag or a digest. */
  readonly reference: string;
  /** The tag ended in `*` where it was written. */
  readonly isMatch: boolean;
}

type Part = PartReference & PartOfIndex;

export interface MergeParts {
  /** What the merged index names, in the same order for the same parts. */
  readonly entries: readonly Descriptor[];
  /** Their manifests, and the configs that were read for their platforms. */
  readonly documents: ReadonlyMap<Digest, Buffer>;
  /** Where each manifest was read, and with it each blob that it names is. */
  readonly places: ReadonlyMap<Digest, ReadonlySet<PartRepository>>;
  /** The tags that a `*` matched. */
  readonly matches: readonly Part[];
}

/** Something is not there that another job may have put just now. */
class NotServedError extends PushError {}

/**
 * When parts are read again: S3 and registries with replicas serve a tag, or list it, some seconds after its PUT was
 * confirmed. Milliseconds.
 */
const READ_AGAIN_MS: readonly number[] = [500, 1000, 2000, 4000];

/** Runs `read` again after each wait as long as something is not served yet. Throws what the last one throws. */
export async function whenServed<T>(
  read: () => Promise<T>,
  { report, signal }: Pick<SharedContext, 'report' | 'signal'>,
  waits: readonly number[] = READ_AGAIN_MS,
): Promise<T> {
  for (const wait of waits) {
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof NotServedError)) throw error;
      report({ type: 'info', text: `${error.message}; reading it again in ${wait / 1000} s` });
    }
    await untilAborted(new Promise((resolve) => setTimeout(resolve, wait)), signal);
  }
  return read();
}

/** The error for a manifest that a registry does not serve. */
export function notServed(name: string, reference: string, remedy: string): PushError {
  const separator = isDigest(reference) ? '@' : ':';
  return new NotServedError('Merge', `${name}${separator}${reference} is not there`, { remedy });
}

/**
 * Reads the parts with all that their indexes name, attestations too. Throws PushError when one is not there, no tag
 * matches a `*`, a platform is missing or comes twice, and what the registry's client and the documents' reader throw.
 */
export function readParts(shared: SharedContext<MergeRequest>, waits?: readonly number[]): Promise<MergeParts> {
  const reader = new PartReader(shared);
  return whenServed(() => reader.read(), shared, waits);
}

/** Manifests asked for at once: some merges run twelve at a time, and registries count requests. */
const READERS = 4;

class PartReader {
  readonly #shared: SharedContext<MergeRequest>;
  readonly #limit = pLimit(READERS);
  readonly #repositories = new Map<string, PartRepository>();
  readonly #documents = new Map<Digest, Buffer>();
  readonly #places = new Map<Digest, Set<PartRepository>>();
  /** What manifests that indexes name become, in this reading. */
  readonly #children = new Map<string, Promise<readonly Descriptor[]>>();
  #bytes = 0;

  constructor(shared: SharedContext<MergeRequest>) {
    this.#shared = shared;
  }

  async read(): Promise<MergeParts> {
    const { parts, platforms } = this.#shared.request;
    this.#children.clear();
    const references = (await Promise.all(parts.map((part) => this.#referencesOf(part)))).flat();
    const read = await Promise.all(references.map((one) => this.#partOf(one)));
    const entries = mergeEntries(read);
    expectPlatforms(
      entries,
      platforms,
      parts.some(({ tagPrefix }) => tagPrefix !== undefined),
    );
    const matches = read.filter(({ isMatch }) => isMatch);
    return { entries, documents: this.#documents, places: this.#places, matches };
  }

  async #referencesOf({ text, reference, tagPrefix }: MergePart): Promise<PartReference[]> {
    const place = this.#repositoryOf({ text, reference });
    const { digest, tag } = reference;
    if (tagPrefix === undefined) return [{ ...place, reference: digest ?? tag ?? 'latest', isMatch: false }];
    const tags = await place.repository.tags(this.#shared.signal);
    // What an earlier run has merged is no part of it.
    const destinations = new Set(this.#shared.request.destinations.map(formatReference));
    const matching = tags
      .filter((one) => one.startsWith(tagPrefix) && !destinations.has(`${place.name}:${one}`))
      .sort();
    if (matching.length === 0) {
      const remedy = 'check that the jobs that push the parts have succeeded, and the tags they push to';
      throw new NotServedError('Merge', `no tag of ${place.name} begins with ${tagPrefix}`, { remedy });
    }
    this.#shared.report({ type: 'info', text: `${text}: ${matching.join(', ')}` });
    return matching.map((one) => ({ ...place, reference: one, isMatch: true }));
  }

  #repositoryOf({ reference: { registry, apiHost, repository } }: MergePart): PartRepository {
    const name = `${registry}/${repository}`;
    const known = this.#repositories.get(name);
    if (known) return known;
    const { hosts, request } = this.#shared;
    const isDestination = request.destinations.some((one) => `${one.registry}/${one.repository}` === name);
    const access = isDestination || request.cleanup ? 'pull,push' : 'pull';
    const place = { host: apiHost, name, repository: hosts.get(apiHost)!.registry.repository(repository, access) };
    this.#repositories.set(name, place);
    return place;
  }

  async #partOf(part: PartReference): Promise<Part> {
    const { descriptor, bytes } = await this.#manifest(part, part.reference);
    const entries = await this.#entriesOf(part, descriptor, bytes, 0);
    const separator = isDigest(part.reference) ? '@' : ':';
    return { ...part, text: `${part.name}${separator}${part.reference}`, root: descriptor.digest, entries };
  }

  /**
   * What a manifest becomes in the merged index: itself, with its platform; of an index all that it names, byte for
   * byte.
   */
  async #entriesOf(
    part: PartReference,
    descriptor: Descriptor,
    bytes: Buffer,
    depth: number,
  ): Promise<readonly Descriptor[]> {
    const what = `the manifest ${descriptor.digest}`;
    const document = readDocument(bytes, what, descriptor.mediaType);
    if (document.kind === 'index' && depth < MAX_DEPTH) {
      const children = await Promise.all(
        uniqueEntries(document.index.manifests).map((child) => this.#childOf(part, child, depth + 1)),
      );
      return uniqueEntries(children.flat());
    }
    if (document.kind !== 'manifest')
      throw new PushError('Merge', `${what} of ${part.name} is no image that can be merged`);
    this.#keep(part, descriptor.digest, bytes);
    return [await this.#withPlatform(part, descriptor, document.manifest, depth > 0)];
  }

  /** Indexes may name one manifest, and each other, many times: each is read once. */
  #childOf(part: PartReference, child: Descriptor, depth: number): Promise<readonly Descriptor[]> {
    const key = `${part.name}@${child.digest}`;
    const known = this.#children.get(key);
    if (known) return known;
    const read = this.#manifest(part, child.digest).then(({ bytes }) => this.#entriesOf(part, child, bytes, depth));
    this.#children.set(key, read);
    return read;
  }

  async #withPlatform(
    part: PartReference,
    descriptor: Descriptor,
    { config }: Manifest,
    isChild: boolean,
  ): Promise<Descriptor> {
    const { mediaType, digest, size } = descriptor;
    if (descriptor.platform || (isChild && !isImageConfigType(config.mediaType))) return descriptor;
    const bytes = isImageConfigType(config.mediaType) ? await this.#config(part, config.digest) : undefined;
    const platform = bytes && configPlatform(readConfig(bytes, `the config ${config.digest}`));
    if (platform) return isChild ? { ...descriptor, platform } : { mediaType, digest, size, platform };
    const what = `${part.name}:${part.reference} names no platform, neither in an index nor in its config`;
    throw new PushError('Merge', what, { remedy: 'merge container images: each becomes the one for its platform' });
  }

  async #manifest(part: PartReference, reference: string): Promise<{ descriptor: Descriptor; bytes: Buffer }> {
    const { signal } = this.#shared;
    const found = await this.#limit(() => part.repository.getManifest(reference, signal));
    if (!found) throw notServed(part.name, reference, 'check that the job that pushes this part has succeeded');
    return found;
  }

  async #config(part: PartReference, digest: Digest): Promise<Buffer> {
    const options = { maxBytes: MAX_DOCUMENT_BYTES, signal: this.#shared.signal };
    const known = this.#documents.get(digest);
    const bytes = known ?? (await this.#limit(() => part.repository.getBlob(digest, options)));
    if (!bytes) throw notServed(part.name, digest, 'push this part again: the registry lacks its config');
    this.#keep(part, digest, bytes);
    return bytes;
  }

  #keep({ host, name, repository }: PartReference, digest: Digest, bytes: Buffer): void {
    const place = this.#repositories.get(name) ?? { host, name, repository };
    this.#places.set(digest, (this.#places.get(digest) ?? new Set()).add(place));
    if (this.#documents.has(digest)) return;
    this.#bytes += bytes.length;
    if (this.#bytes > MAX_KEPT_BYTES)
      throw new PushError('Merge', `the manifests of the parts have more than ${MAX_KEPT_BYTES} bytes`);
    this.#documents.set(digest, bytes);
  }
}

function expectPlatforms(entries: readonly Descriptor[], platforms: readonly string[], mayAppear: boolean): void {
  const images = entries.filter(isImageEntry);
  const present = new Set(images.map(({ platform }) => platformKey(platform!)));
  const missing = platforms.filter((text) => !present.has(platformKey(parsePlatform(text))));
  if (missing.length === 0) return;
  const names = [...new Set(images.map(({ platform }) => formatPlatform(platform)))].join(', ') || 'none';
  const what = `no part has ${missing.join(', ')}, only ${names}; no tag has moved`;
  const remedy = `check the job that pushes the part for ${missing[0]}, or leave it out of platforms`;
  throw mayAppear ? new NotServedError('Merge', what, { remedy }) : new PushError('Merge', what, { remedy });
}
