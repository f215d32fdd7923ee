/** The blobs of an image: every one once, by the digest it has in the tree. */

import type { ImageTree } from '../oci/image-tree.ts';
import { type Descriptor, type Digest, digestOf, isForeignLayer, MediaType } from '../oci/types.ts';
import { isRecompressedLayer, isUncompressedLayer, type TreeManifest, walk } from '../oci/walk.ts';
import type { TargetRepository } from './target-repository.ts';

export interface ImageBlob {
  /** The digest of the blob itself, or the diffID of a layer that is compressed here. */
  readonly key: Digest;
  /** A layer of a container image that is compressed here: what is pushed is another blob than the one that the tree names. */
  readonly plain: boolean;
  /** Of a layer that is compressed here although it comes compressed: the digest that the tree and its source have it under. */
  readonly compressedAs?: Digest;
  readonly mediaType: string;
  /** Bytes, of the blob as the tree names it; undefined when only reading tells. */
  readonly size: number | undefined;
  /** For a plain layer and for a compressed one whose config pairs it with one. */
  readonly diffId: Digest | undefined;
  /** What it is called where its digest is not known yet. */
  readonly label?: string;
}

/** The first hex digits of a digest: enough to tell the layers of one image apart, as `docker push` shows them. */
export const shortDigest = (digest: Digest): string => digest.slice('sha256:'.length, 'sha256:'.length + 12);

/** Every blob that a tree needs in the registry, each once: layers in order, configs after them. Foreign layers stay where they are. */
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
  return walk(tree).manifests.flatMap((one) => {
    const { manifest } = one;
    const layers = manifest.layers.flatMap((layer, position): ImageBlob[] =>
      isForeignLayer(layer) ? [] : [layerBlob(layer, one, position)],
    );
    const { digest, mediaType, size } = manifest.config;
    return [...layers, { key: digest, plain: false, mediaType, size, diffId: undefined }];
  });
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
