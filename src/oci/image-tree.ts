/** What an image is made of, as its source has it: a config with layers, or manifests of its own. */
import type { Descriptor, Digest } from './types.ts';

/** What an image is made of. */
export type ImageTree = ComposedImage | ManifestTree;

/** An image without a manifest of its own (classic stores, docker-archive): the push makes one. */
export interface ComposedImage {
  readonly kind: 'composed';
  /** The config's own bytes. */
  readonly config: Buffer;
  readonly diffIds: readonly Digest[];
}

/** An image with manifests of its own, kept byte for byte. */
export interface ManifestTree {
  readonly kind: 'manifests';
  readonly root: Descriptor;
  /** Every document and small blob that is at hand, by digest, verified: indexes, manifests, configs, attestations. */
  readonly documents: ReadonlyMap<Digest, Buffer>;
  /**
   * Whether its manifests go as they are whatever their layers are: an image that is promoted from a registry keeps its
   * digest.
   */
  readonly isVerbatim?: boolean;
  /** Layers of container images that come in another compression are compressed again in this one. */
  readonly recompress?: 'gzip' | 'zstd' | undefined;
  /** Manifests that an index names and the source does not have: platforms that were never pulled. */
  readonly absent: readonly Descriptor[];
  /**
   * Manifests beside the root that speak about a part of it (`subject`): signatures, bills of materials. Put after it.
   */
  readonly referrers?: readonly Descriptor[];
}
