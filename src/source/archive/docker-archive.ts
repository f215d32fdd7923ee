/** The docker-archive form on disk: `manifest.json`, a config and layers, as docker, podman, skopeo, kaniko, Bazel and ko write it. */

import { createHash } from 'node:crypto';
import type { BlobFormat } from '../../blob/blob.ts';
import { leadsOut } from '../../common/platform.ts';
import { readConfig } from '../../oci/documents.ts';
import { ImageError } from '../../oci/error.ts';
import type { ImageTree } from '../../oci/image-tree.ts';
import { composeManifest } from '../../oci/rewrite.ts';
import { type Descriptor, type Digest, digestOf, isForeignLayer, MediaType } from '../../oci/types.ts';
import { candidatesOfList, chooseOne, type ListedImage, readArchiveList } from '../choose.ts';
import { type Files, type OpenFile, readSmall, storedBlob } from '../files.ts';
import { FileStore } from '../layout/layout.ts';
import type { StoreSource } from '../source.ts';

/** A layer of the archive: what stands in a manifest for it, and where its bytes are. */
interface ArchivedLayer {
  readonly descriptor: Descriptor;
  readonly path: string;
}

const LAYER_TYPES: Readonly<Record<BlobFormat, string | undefined>> = {
  tar: MediaType.ociLayer,
  gzip: MediaType.ociLayerGzip,
  zstd: MediaType.ociLayerZstd,
  other: undefined,
};

/**
 * Opens the image that `ref` means; undefined when the files have no `manifest.json`. Plain layers make a composed
 * image; where some are compressed already (Bazel, ko), a manifest is made that keeps them. Throws ImageError.
 */
export async function openDockerArchive(files: Files, ref: string | undefined): Promise<StoreSource | undefined> {
  const list = await readSmall(files, 'manifest.json');
  if (!list) return undefined;
  const image = chooseOne(candidatesOfList(readArchiveList(list)), ref, files.description);
  const config = await readArchivedConfig(files, image);
  const { diff_ids: diffIds } = readConfig(config, `the config ${image.config} in ${files.description}`).rootfs;
  if (diffIds.length !== image.layers.length) {
    throw new ImageError(
      'Archive',
      `${files.description} names ${image.layers.length} layers, and the image's config ${diffIds.length}`,
    );
  }
  const layers: ArchivedLayer[] = [];
  for (const [position, path] of image.layers.entries())
    layers.push(await archivedLayer(files, image, path, diffIds[position]!));
  const paths = new Map(layers.map(({ descriptor, path }) => [descriptor.digest, path]));
  return new FileStore(files, treeOf(config, diffIds, layers), paths);
}

async function readArchivedConfig(files: Files, image: ListedImage): Promise<Buffer> {
  const bytes = await readSmall(files, safePath(image.config));
  if (!bytes)
    throw new ImageError(
      'Archive',
      `${files.description} lacks the config ${image.config} that its manifest.json names`,
    );
  const promised = /[0-9a-f]{64}/.exec(image.config)?.[0];
  const digest = digestOf(bytes);
  if (promised !== undefined && digest !== `sha256:${promised}`) {
    throw new ImageError(
      'Archive',
      `the config ${image.config} in ${files.description} is damaged: its bytes have the digest ${digest}`,
    );
  }
  return bytes;
}

async function archivedLayer(files: Files, image: ListedImage, path: string, diffId: Digest): Promise<ArchivedLayer> {
  const file = await files.open(safePath(path));
  const source = image.layerSources.get(diffId);
  if (!file && source && isForeignLayer(source)) return { descriptor: source, path };
  if (!file)
    throw new ImageError('Archive', `${files.description} lacks the layer ${path} that its manifest.json names`);
  const { format: form } = await storedBlob(file);
  const digest = form === 'tar' ? diffId : await hash(file);
  // Tar files older than their magic, and empty ones, are told by the diffID alone.
  const mediaType = digest === diffId ? MediaType.ociLayer : LAYER_TYPES[form];
  if (mediaType === undefined) {
    throw new ImageError(
      'Archive',
      `the layer ${path} in ${files.description} is neither a tar file nor one compressed with gzip or zstd`,
    );
  }
  return { descriptor: { mediaType, digest, size: file.size }, path };
}

function treeOf(config: Buffer, diffIds: readonly Digest[], layers: readonly ArchivedLayer[]): ImageTree {
  const descriptors = layers.map(({ descriptor }) => descriptor);
  if (descriptors.every(({ mediaType }) => mediaType === MediaType.ociLayer))
    return { kind: 'composed', config, diffIds };
  const configDigest = digestOf(config);
  const manifest = composeManifest(
    { mediaType: MediaType.ociConfig, digest: configDigest, size: config.length },
    descriptors,
  );
  const root = { mediaType: MediaType.ociManifest, digest: digestOf(manifest), size: manifest.length };
  const documents = new Map<Digest, Buffer>([
    [root.digest, manifest],
    [configDigest, config],
  ]);
  return { kind: 'manifests', root, documents, absent: [] };
}

async function hash(file: OpenFile): Promise<Digest> {
  const sha = createHash('sha256');
  const input = file.read();
  for await (const chunk of input as AsyncIterable<Buffer>) {
    sha.update(chunk);
    input.recycle?.(chunk);
  }
  return `sha256:${sha.digest('hex')}`;
}

/** A path of manifest.json that leads out of the archive finds nothing in a tar file; it must not in a folder either. */
function safePath(path: string): string {
  if (!leadsOut(path)) return path;
  throw new ImageError('Archive', `manifest.json names ${JSON.stringify(path)}, which leads out of the archive`);
}
