/** Blobs that are sent although a registry says that it has them: it denied them when a manifest came (T9). */
import type { Digest } from '../image/oci.ts';
import type { Destination } from './destination.ts';

export interface Force {
  /** By their keys. */
  readonly pieces: ReadonlySet<Digest>;
  /** The repositories that denied some of them. */
  readonly destinations: ReadonlySet<Destination>;
}

export const NOTHING_FORCED: Force = { pieces: new Set(), destinations: new Set() };
