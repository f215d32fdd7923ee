/**
 * The documents of OCI images, their descriptors and media types.
 * https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md, manifest.md, image-index.md, config.md
 */

import { createHash } from 'node:crypto';

/** `sha256:` and 64 lower-case hex digits: what descriptor.md calls a registered digest. */
export type Digest = `sha256:${string}`;

/** image-index.md, the `platform` of a descriptor. */
export interface Platform {
  readonly architecture: string;
  readonly os: string;
  readonly variant?: string;
  readonly 'os.version'?: string;
  readonly 'os.features'?: readonly string[];
}

/** descriptor.md: the type, digest and size (bytes) of some content. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: Platform;
  readonly urls?: readonly string[];
  readonly artifactType?: string;
  readonly data?: string;
}

/** manifest.md: one image (or artifact): its config and its layers from the base up. */
export interface Manifest {
  readonly schemaVersion: 2;
  readonly mediaType?: string;
  readonly artifactType?: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** image-index.md: several manifests under one digest. */
export interface Index {
  readonly schemaVersion: 2;
  readonly mediaType?: string;
  readonly artifactType?: string;
  readonly manifests: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** config.md, the part that a push needs: the diffIDs of the layers from the base up. */
export interface ImageConfig {
  readonly architecture?: string;
  readonly os?: string;
  readonly variant?: string;
  readonly 'os.version'?: string;
  readonly 'os.features'?: readonly string[];
  readonly rootfs: { readonly type: 'layers'; readonly diff_ids: readonly Digest[] };
}

/** The media types that a push meets. media-types.md, and Docker's schema 2 ancestors of them. */
export const MediaType = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerForeignLayer: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
} as const;

const INDEX_TYPES: ReadonlySet<string> = new Set([MediaType.ociIndex, MediaType.dockerList]);
const MANIFEST_TYPES: ReadonlySet<string> = new Set([MediaType.ociManifest, MediaType.dockerManifest]);
const CONFIG_TYPES: ReadonlySet<string> = new Set([MediaType.ociConfig, MediaType.dockerConfig]);
const PLAIN_LAYER_TYPES: ReadonlySet<string> = new Set([MediaType.ociLayer, MediaType.dockerLayer]);

/** Whether a media type is that of an index (OCI) or manifest list (Docker). */
export const isIndexType = (mediaType: string): boolean => INDEX_TYPES.has(mediaType);

/** Whether a media type is that of an image manifest, OCI or Docker schema 2. */
export const isManifestType = (mediaType: string): boolean => MANIFEST_TYPES.has(mediaType);

/** Whether a media type is that of a container image's config (an artifact has another one). */
export const isImageConfigType = (mediaType: string): boolean => CONFIG_TYPES.has(mediaType);

/** Whether a media type is that of a container image's uncompressed layer. */
export const isPlainLayerType = (mediaType: string): boolean => PLAIN_LAYER_TYPES.has(mediaType);

/**
 * How a container image's layer is compressed, by its media type; undefined for plain ones, and for what is no layer.
 */
export function layerCompression(mediaType: string): 'gzip' | 'zstd' | undefined {
  const match = /^application\/vnd\.(?:oci\.image\.layer\.v1|docker\.image\.rootfs\.diff)\.tar[+.](gzip|zstd)$/;
  return match.exec(mediaType)?.[1] as 'gzip' | 'zstd' | undefined;
}

/** Whether a media type is that of a manifest of schema 1, the format before image configs were blobs. */
export const isSchema1Type = (mediaType: string): boolean =>
  mediaType.startsWith('application/vnd.docker.distribution.manifest.v1+');

/**
 * Whether a media type is that of a document which registries keep as a manifest. Any other entry of an index is a
 * blob: BuildKit's registry cache is an index of layers (`cache-to: type=registry,image-manifest=false`).
 * image-index.md, `manifests`.
 */
export const isDocumentType = (mediaType: string): boolean =>
  isManifestType(mediaType) || isIndexType(mediaType) || isSchema1Type(mediaType) || mediaType === ARTIFACT_MANIFEST;

/** The artifact manifest of image-spec 1.1.0-rc1 to rc3, which 1.1.0 took back. */
const ARTIFACT_MANIFEST = 'application/vnd.oci.artifact.manifest.v1+json';

/**
 * Whether a layer is not to be distributed: its bytes stay at its `urls`. manifest.md and layer.md, non-distributable
 * layers.
 */
export const isForeignLayer = (layer: Descriptor): boolean =>
  layer.mediaType === MediaType.dockerForeignLayer || layer.mediaType.includes('.nondistributable.');

/** Whether a text is a sha256 digest in canonical spelling. descriptor.md, section Digests. */
export const isDigest = (text: unknown): text is Digest =>
  typeof text === 'string' && /^sha256:[0-9a-f]{64}$/.test(text);

/** The hexadecimal part of a digest: the name of a blob's file in layouts, stores and caches. */
export const hexOf = (digest: Digest): string => digest.slice('sha256:'.length);

/** The sha256 digest of bytes that are all in memory. */
export const digestOf = (bytes: Uint8Array): Digest => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

// ChainIDs: the names of stacks of layers. image-spec config.md, "Layer ChainID".

/** The chainIDs of layers from the base up: that of each layer with all that are below it. */
export function chainIdsOf(diffIds: readonly Digest[]): Digest[] {
  const chainIds: Digest[] = [];
  for (const diffId of diffIds) {
    const below = chainIds.at(-1);
    chainIds.push(below === undefined ? diffId : digestOf(Buffer.from(`${below} ${diffId}`)));
  }
  return chainIds;
}
