/** The documents of a streamed archive as far as they have come, and the image that they make. */

import { ImageError } from '../../common/error.ts';
import { MAX_DOCUMENT_BYTES, MAX_KEPT_BYTES, readDocument } from '../../oci/documents.ts';
import { buildTree, type ImageTree, type ManifestTree } from '../../oci/image-tree.ts';
import { chainIdsOf, type Descriptor, type Digest, digestOf } from '../../oci/types.ts';
import { walk } from '../../oci/walk.ts';
import {
  type Candidate,
  candidatesOfIndex,
  candidatesOfList,
  matching,
  readArchiveList,
  readIndex,
} from '../choose.ts';

/** What the engine said of the image before the export began. */
export interface AskedImage {
  readonly name: string;
  readonly imageId: Digest;
  readonly diffIds: readonly Digest[];
}

export class KeptDocuments {
  readonly #asked: AskedImage;
  readonly #layers: ReadonlySet<Digest>;
  readonly #documents = new Map<Digest, Buffer>();
  readonly #lists = new Map<string, Buffer>();
  /** Blobs that went by. */
  readonly #seen = new Set<Digest>();
  #bytes = 0;
  #ended = false;
  #known: ImageTree | undefined;

  constructor(asked: AskedImage) {
    this.#asked = asked;
    this.#layers = new Set(asked.diffIds);
  }

  /** Whether a digest is that of a layer for certain, whatever its bytes look like. */
  isLayer(digest: Digest): boolean {
    return this.#layers.has(digest);
  }

  /** Notes a blob that was handed to the reader: it need not be waited for. */
  saw(digest: Digest): void {
    this.#seen.add(digest);
  }

  /** Keeps a verified document. Throws ImageError when there are too many. */
  add(digest: Digest, bytes: Buffer): void {
    if (this.#documents.has(digest)) return;
    this.#count(bytes);
    this.#documents.set(digest, bytes);
  }

  /**
   * Keeps `index.json` or `manifest.json`. Throws ImageError for a second one: readers would disagree on which counts.
   */
  addList(name: string, bytes: Buffer): void {
    if (this.#lists.has(name)) throw new ImageError('Archive', `the archive has ${name} twice`);
    this.#count(bytes);
    this.#lists.set(name, bytes);
  }

  /** There will be no more. */
  end(): void {
    this.#ended = true;
  }

  /**
   * The image, told by the document that has the ID of the image: its config, its manifest or its index. Undefined as
   * long as something that it names may still come. After the end: as `index.json` and `manifest.json` tell it. Throws
   * ImageError.
   */
  tree(): ImageTree | undefined {
    this.#known ??= this.#byId() ?? (this.#ended ? this.#byName() : undefined);
    return this.#known;
  }

  #byId(): ImageTree | undefined {
    const { imageId } = this.#asked;
    const bytes = this.#documents.get(imageId);
    if (!bytes) return undefined;
    const document = readDocument(bytes, `the document ${imageId}`);
    if (document.kind === 'config') {
      return { kind: 'composed', config: bytes, diffIds: document.config.rootfs.diff_ids };
    }
    return this.#manifests(imageId);
  }

  #manifests(root: Digest | Descriptor): ManifestTree | undefined {
    const found = buildTree(root, this.#documents);
    if (!found || this.#ended) return found?.tree;
    if (found.missing.some(({ digest }) => this.#mayCome(digest))) return undefined;
    return this.#smallBlobs(found.tree).some(({ digest }) => this.#mayCome(digest)) ? undefined : found.tree;
  }

  #mayCome(digest: Digest): boolean {
    return !this.#documents.has(digest) && !this.#seen.has(digest);
  }

  /** What attestations carry is JSON too, and would be kept aside after the tree was thought complete. */
  #smallBlobs(tree: ManifestTree): Descriptor[] {
    const others = walk(tree).manifests.filter(({ isImage, attests }) => !isImage || attests !== undefined);
    return others.flatMap(({ manifest }) => manifest.layers).filter(({ size }) => size <= MAX_DOCUMENT_BYTES);
  }

  /** For engines whose ID of an image is none of its documents: what the archive itself calls by the name asked for. */
  #byName(): ImageTree {
    const trees = [...this.#indexed(), ...this.#listed()];
    const tree = trees.find((one) => this.#fits(one));
    if (tree) return tree;
    throw new ImageError(
      'Archive',
      `the archive does not hold the image ${this.#asked.name} (${this.#asked.imageId})`,
      {
        remedy: 'save it again: it may have changed while it was read',
      },
    );
  }

  #indexed(): ImageTree[] {
    const bytes = this.#lists.get('index.json');
    const found = bytes ? this.#asking(candidatesOfIndex(readIndex(bytes))) : [];
    return found.map((root) => this.#manifests(root)).filter((tree) => tree !== undefined);
  }

  #listed(): ImageTree[] {
    const bytes = this.#lists.get('manifest.json');
    const found = bytes ? this.#asking(candidatesOfList(readArchiveList(bytes))) : [];
    return found.map(({ config }) => this.#composed(config)).filter((tree) => tree !== undefined);
  }

  /** The image of that name, or the only one there is: an image saved by its ID has no name in the archive. */
  #asking<T>(candidates: readonly Candidate<T>[]): T[] {
    const named = matching(candidates, this.#asked.name);
    const all = matching(candidates, undefined);
    return (named.length > 0 ? named : all.length === 1 ? all : []).map(({ item }) => item);
  }

  #composed(path: string): ImageTree | undefined {
    const digest: Digest = `sha256:${/[0-9a-f]{64}/.exec(path)?.[0] ?? ''}`;
    const config = this.#documents.get(digest);
    if (!config) return undefined;
    const document = readDocument(config, `the config ${digest}`);
    return document.kind === 'config'
      ? { kind: 'composed', config, diffIds: document.config.rootfs.diff_ids }
      : undefined;
  }

  /** Whether an image has the layers that the engine named for the one asked for. */
  #fits(tree: ImageTree): boolean {
    const wanted = this.#asked.diffIds.join();
    if (tree.kind === 'composed') return tree.diffIds.join() === wanted;
    return walk(tree).manifests.some(({ manifest }) => {
      const composed = this.#composed(manifest.config.digest);
      return composed?.kind === 'composed' && composed.diffIds.join() === wanted;
    });
  }

  #count(bytes: Buffer): void {
    this.#bytes += bytes.length;
    if (this.#bytes > MAX_KEPT_BYTES) {
      throw new ImageError('Archive', `the archive has more than ${MAX_KEPT_BYTES} bytes of JSON: this is no image`);
    }
  }
}

/**
 * Which layer a `<v1 ID>/layer.tar` is, before its bytes are read: `docker save` before version 25 names layers by the
 * IDs of Docker 1.9. Such an ID is the sha256 of the layer's `json`, which comes just before its tar, together with the
 * layer's chainID; so it proves which of the image's layers it belongs to.
 * https://github.com/moby/moby/blob/v24.0.9/image/v1/imagev1.go (CreateID),
 * https://github.com/moby/moby/blob/v24.0.9/image/tarexport/save.go
 */
type Json = Readonly<Record<string, unknown>>;

export class LegacyLayers {
  readonly #diffIds: readonly Digest[];
  readonly #chainIds: readonly Digest[];
  readonly #byFolder = new Map<string, Digest>();

  /** `diffIds`: those of the image from the base up, as its engine reported them. */
  constructor(diffIds: readonly Digest[]) {
    this.#diffIds = diffIds;
    this.#chainIds = chainIdsOf(diffIds);
  }

  /** Reads the `json` of a folder. One that proves nothing is left out: its layer is known once it was hashed. */
  read(folder: string, bytes: Buffer): void {
    const document = objectOf(bytes);
    const position = document ? this.#chainIds.findIndex((chainId) => isIdOf(folder, document, chainId)) : -1;
    if (position >= 0) this.#byFolder.set(folder, this.#diffIds[position]!);
  }

  /**
   * The diffID of the `layer.tar` in a folder: by its `json`, or because only one layer is left. Undefined when only
   * its bytes tell.
   */
  diffIdOf(folder: string): Digest | undefined {
    const known = this.#byFolder.get(folder);
    if (known !== undefined) return known;
    const named = new Set(this.#byFolder.values());
    const left = [...new Set(this.#diffIds)].filter((diffId) => !named.has(diffId));
    if (left.length !== 1) return undefined;
    this.#byFolder.set(folder, left[0]!);
    return left[0];
  }
}

/**
 * Go writes these characters of strings as escapes; JSON.stringify does not. https://pkg.go.dev/encoding/json#Marshal
 */
const ESCAPED_BY_GO = /[<>&\u2028\u2029]/g;

/** Whether a v1 ID was made of this document and a chainID. */
function isIdOf(id: string, { id: _, parent, os, ...document }: Json, chainId: Digest): boolean {
  const made = {
    ...document,
    layer_id: chainId,
    ...(typeof parent === 'string' ? { parent: `sha256:${parent}` } : {}),
  };
  // The `os` of all layers but the topmost is added after their ID was made.
  return [made, { ...made, os }].some((one) => digestOf(Buffer.from(goJson(one))) === `sha256:${id}`);
}

/** A map as Go's json.Marshal writes it: sorted by its keys, those of the objects in it in their order. */
function goJson(map: Json): string {
  const sorted = Object.fromEntries(Object.entries(map).sort(([one], [other]) => (one < other ? -1 : 1)));
  const escaped = (letter: string) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return JSON.stringify(sorted).replace(ESCAPED_BY_GO, escaped);
}

function objectOf(bytes: Buffer): Json | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof value === 'object' && value !== null ? (value as Json) : undefined;
  } catch {
    return undefined;
  }
}
