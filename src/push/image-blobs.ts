/** The blobs of an image: every one once, by the digest it has in the tree. */

import type { StoredBlob, StreamedBlob } from '../blob/blob.ts';
import { PushError } from '../common/error.ts';
import { isJson, readDocument } from '../oci/documents.ts';
import type { ImageTree } from '../oci/image-tree.ts';
import {
  type Descriptor,
  type Digest,
  digestOf,
  hexOf,
  isForeignLayer,
  type Manifest,
  MediaType,
} from '../oci/types.ts';
import { isRecompressedLayer, isUncompressedLayer, type TreeManifest, walk } from '../oci/walk.ts';
import type { RequestOptions } from './options.ts';
import type { TargetRepository } from './target-repository.ts';

export interface ImageBlob {
  /** The digest of the blob itself, or the diffID of a layer that is compressed here. */
  readonly key: Digest;
  /**
   * A layer of a container image that is compressed here: what is pushed is another blob than the one that the tree
   * names.
   */
  readonly plain: boolean;
  /**
   * Of a layer that is compressed here although it comes compressed: the digest that the tree and its source have it
   * under.
   */
  readonly compressedAs?: Digest;
  readonly mediaType: string;
  /** Bytes, of the blob as the tree names it; undefined when only reading it shows that. */
  readonly size: number | undefined;
  /** For a plain layer and for a compressed one whose config pairs it with one. */
  readonly diffId: Digest | undefined;
  /** What it is called where its digest is not known yet. */
  readonly label?: string;
}

/** The first hex digits of a digest: enough to distinguish the layers of one image, as `docker push` shows them. */
const shortDigest = (digest: Digest): string => hexOf(digest).slice(0, 12);

/**
 * Every blob that a tree needs in the registry, each once: layers in order, configs after them. Foreign layers stay
 * where they are.
 */
export function blobsOf(tree: ImageTree): ImageBlob[] {
  const blobs = tree.kind === 'composed' ? composedBlobs(tree.config, tree.diffIds) : manifestBlobs(tree);
  return [...new Map(blobs.map((blob) => [blob.key, blob])).values()];
}

/** The blobs of a tree that are in memory already, by digest: configs, attestations, small artifacts. */
export function documentsInMemory(tree: ImageTree): ReadonlyMap<Digest, Buffer> {
  return tree.kind === 'composed' ? new Map([[digestOf(tree.config), tree.config]]) : tree.documents;
}

function composedBlobs(config: Buffer, diffIds: readonly Digest[]): ImageBlob[] {
  const layers = diffIds.map((diffId) => uncompressedLayer(diffId));
  return [
    ...layers,
    { key: digestOf(config), plain: false, mediaType: MediaType.ociConfig, size: config.length, diffId: undefined },
  ];
}

/** A layer of which only the diffID is known. */
export function uncompressedLayer(diffId: Digest, size?: number): ImageBlob {
  return { key: diffId, plain: true, mediaType: MediaType.ociLayer, size, diffId };
}

function manifestBlobs(tree: Extract<ImageTree, { kind: 'manifests' }>): ImageBlob[] {
  const { manifests, indexes } = walk(tree);
  const inManifests = manifests.flatMap((one) => {
    const { manifest } = one;
    const layers = manifest.layers.flatMap((layer, position): ImageBlob[] =>
      isForeignLayer(layer) ? [] : [layerBlob(layer, one, position)],
    );
    const { digest, mediaType, size } = manifest.config;
    return [...layers, { key: digest, plain: false, mediaType, size, diffId: undefined }];
  });
  const inIndexes = indexes.flatMap(({ blobs }) => blobs).filter((blob) => !isForeignLayer(blob));
  return [
    ...inManifests,
    ...inIndexes.map(({ digest, mediaType, size }) => ({
      key: digest,
      plain: false,
      mediaType,
      size,
      diffId: undefined,
    })),
  ];
}

function layerBlob({ digest, mediaType, size }: Descriptor, image: TreeManifest, position: number): ImageBlob {
  const diffId = image.diffIds?.[position];
  if (isUncompressedLayer(image, position)) return { key: digest, plain: true, mediaType, size, diffId: digest };
  if (diffId !== undefined && isRecompressedLayer(image, position))
    return { key: diffId, plain: true, mediaType, size, diffId, compressedAs: digest };
  return { key: digest, plain: false, mediaType, size, diffId };
}

/** Blobs that are uploaded although a registry says that it has them: it denied them when a manifest came. */
export interface UploadAgain {
  /** By their keys. */
  readonly blobs: ReadonlySet<Digest>;
  /** The repositories that denied some of them. */
  readonly repositories: ReadonlySet<TargetRepository>;
}

export const NOTHING_AGAIN: UploadAgain = { blobs: new Set(), repositories: new Set() };

/**
 * One name for a blob everywhere: in the log, on the terminal's rows, in the summary and the metadata. A layer is named
 * by its place and its diffID, which is known from the start and which `docker push` shows too; its blob's digest is
 * known only at the end.
 */
export class BlobNames {
  readonly #names = new Map<Digest, string>();
  readonly #steps = new Map<Digest, string>();
  /** DiffIDs by the digests of compressed layers. */
  readonly #diffIds = new Map<Digest, Digest>();

  /** The layers of an image of which no more is known than their diffIDs, from the bottom up. */
  addLayers(diffIds: readonly Digest[]): void {
    for (const [position, diffId] of diffIds.entries())
      this.#add(diffId, `layer ${position + 1}/${diffIds.length} ${shortDigest(diffId)}`);
  }

  /** The layers and configs of an image, with the steps that made them. A blob that has a name keeps it. */
  addTree(tree: ImageTree): void {
    if (tree.kind === 'composed') {
      this.addLayers(tree.diffIds);
      this.#addSteps(
        tree.config,
        tree.diffIds.map((diffId) => [diffId]),
      );
      this.#add(digestOf(tree.config), `config ${shortDigest(digestOf(tree.config))}`);
      return;
    }
    for (const { manifest, diffIds = [], isImage } of walk(tree).manifests) {
      this.#addManifest(manifest, diffIds, isImage);
      const config = tree.documents.get(manifest.config.digest);
      if (config && isImage)
        this.#addSteps(
          config,
          manifest.layers.map(({ digest }, at) => [digest, diffIds[at] ?? digest]),
        );
    }
  }

  /** The compressed blob of a plain layer, where its record has no diffID. */
  addBlob(digest: Digest, diffId: Digest): void {
    this.#diffIds.set(digest, diffId);
  }

  #addManifest({ layers, config }: Manifest, diffIds: readonly Digest[], isImage: boolean): void {
    const kind = isImage ? 'layer' : 'blob';
    for (const [position, { digest }] of layers.entries()) {
      const id = diffIds[position] ?? digest;
      const name = `${kind} ${position + 1}/${layers.length} ${shortDigest(id)}`;
      this.#add(id, name);
      this.#add(digest, this.#names.get(id) ?? name);
    }
    this.#add(config.digest, `config ${shortDigest(config.digest)}`);
  }

  #add(digest: Digest, name: string): void {
    if (!this.#names.has(digest)) this.#names.set(digest, name);
  }

  /** `layers`: for each layer its digests, by all of which its step is found. */
  #addSteps(config: Buffer, layers: readonly (readonly Digest[])[]): void {
    const steps = layerSteps(config);
    if (steps.length !== layers.length) return;
    for (const [position, digests] of layers.entries())
      for (const digest of digests) if (!this.#steps.has(digest)) this.#steps.set(digest, steps[position]!);
  }

  /** The name of an image's blob. The first answer stays the name, whatever is added later. */
  nameOf({ key, label }: Pick<ImageBlob, 'key' | 'label'>): string {
    if (label !== undefined) return label;
    const name = this.#names.get(key) ?? `blob ${shortDigest(key)}`;
    this.#names.set(key, name);
    return name;
  }

  /** Name and Dockerfile step of a blob in the registry, by the diffID of the layer that it is, else by its digest. */
  describe({
    digest,
    diffId = this.#diffIds.get(digest) ?? digest,
  }: {
    readonly digest: Digest;
    readonly diffId?: Digest;
  }): BlobDescription {
    const name = this.#names.get(diffId) ?? this.#names.get(digest) ?? `blob ${shortDigest(digest)}`;
    const createdBy = this.#steps.get(diffId) ?? this.#steps.get(digest);
    return createdBy ? { name, createdBy } : { name };
  }
}

export interface BlobDescription {
  readonly name: string;
  /** The Dockerfile step that made a layer, as the image's history has it, without the shell around it. */
  readonly createdBy?: string;
}

/**
 * The steps of a config's history that made a layer, in order; empty where there is no history. image-spec config.md,
 * `history`.
 */
function layerSteps(config: Buffer): string[] {
  if (!isJson(config)) return [];
  const document = readDocument(config, 'the config');
  const history = document.kind === 'config' ? (document.config as { history?: unknown }).history : undefined;
  if (!Array.isArray(history)) return [];
  return history
    .filter((entry) => entry && typeof entry === 'object' && entry.empty_layer !== true)
    .map(({ created_by: step }: { created_by?: unknown }) => (typeof step === 'string' ? dockerfileStep(step) : ''));
}

/** `/bin/sh -c `, `/bin/bash -o pipefail -ec `: how a RUN step is executed. */
const SHELL = /^(?:RUN )?(?:\|\d+ .*?)?(?:\/usr)?\/bin\/(?:ba|da|a|z|k)?sh (?:-o pipefail |-[a-z]+ )*?-[a-z]*c /s;

/**
 * A step as the Dockerfile has it: `created_by` of BuildKit (`RUN |1 A=b /bin/sh -c make # buildkit`) and of the
 * classic builder (`/bin/sh -c #(nop) COPY file:… in /app `), without shell, build arguments and marks.
 */
export function dockerfileStep(createdBy: string): string {
  const text = createdBy.replace(/\s+# buildkit\s*$/, '').trim();
  const shell = SHELL.exec(text)?.[0];
  if (shell === undefined) return text;
  const command = text.slice(shell.length).trim();
  return command.startsWith('#(nop)') ? command.slice('#(nop)'.length).trim() : `RUN ${command}`;
}

// Which blob an entry of an image's stream is.

/** Stands for the digest of a legacy `layer.tar` until it was hashed. */
export const UNNAMED: Digest = `sha256:${'0'.repeat(64)}`;

/** Whether an entry is a layer that is compressed again, as far as its first bytes tell. */
export const isRecompressible = (
  { format }: Pick<StreamedBlob, 'format'>,
  { forceCompression, compression }: Pick<RequestOptions, 'forceCompression' | 'compression'>,
): boolean => forceCompression && (format === 'gzip' || format === 'zstd') && format !== compression;

/**
 * The blob that an entry is by its name and first bytes; undefined for the legacy format, whose names do not say it.
 */
export function blobOfEntry(entry: StreamedBlob): ImageBlob | undefined {
  if (!entry.digest) return undefined;
  const plain = entry.format === 'tar';
  const compressed = entry.format === 'zstd' ? MediaType.ociLayerZstd : MediaType.ociLayerGzip;
  const mediaType = plain ? MediaType.ociLayer : compressed;
  return { key: entry.digest, plain, mediaType, size: entry.size, diffId: plain ? entry.digest : undefined };
}

/** The layer of a legacy `<id>/layer.tar`, whose diffID only its bytes will tell. */
export function unnamedLayer({ name, size }: StreamedBlob): ImageBlob {
  // `<id>/layer.tar`: the ID of the old format distinguishes the layers, though it is no digest of theirs.
  const label = `layer ${name.slice(0, 12)}`;
  return { key: UNNAMED, plain: true, mediaType: MediaType.ociLayer, size, diffId: undefined, label };
}

/**
 * Throws PushError for a blob that is not what the image's documents say. A registry accepts both, and no client can
 * pull either: a layer that is compressed twice, and one of another size than its descriptor's.
 */
export function assertAsDescribed({ format, size }: StoredBlob, blob: ImageBlob): void {
  const { key, plain, compressedAs, size: described } = blob;
  const remedy = 'the image is damaged where it is kept: build, pull or save it again';
  if (plain && compressedAs === undefined && format !== 'tar' && format !== 'other') {
    const what = `the layer ${key} is compressed (${format}), and the image's config says that it is not`;
    throw new PushError('Export', what, { remedy });
  }
  if (plain || size === undefined || described === undefined || size === described) return;
  throw new PushError('Export', `the blob ${key} has ${size} bytes where its descriptor says ${described}`, { remedy });
}
