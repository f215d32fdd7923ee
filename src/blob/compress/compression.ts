/** The two compressions that a layer may get, and the constants that were measured for each (docs/compressors.md). */

import { MediaType } from '../../oci/types.ts';

export type Compression = 'gzip' | 'zstd';

interface CompressionFacts {
  /** media-types.md: what a descriptor calls a layer in this compression. */
  readonly mediaType: string;
  readonly defaultLevel: number;
  readonly levels: readonly [lowest: number, highest: number];
  /** Bytes of a layer that are compressed by themselves, as a gzip member or a zstd frame of their own. */
  readonly blockBytes: number;
}

const MIB = 1024 * 1024;

/** Both formats allow members (RFC 1952, section 2.2) and frames (RFC 8878, section 3) side by side: together they are one valid stream. */
export const COMPRESSIONS: Readonly<Record<Compression, CompressionFacts>> = {
  gzip: { mediaType: MediaType.ociLayerGzip, defaultLevel: 1, levels: [1, 9], blockBytes: MIB },
  // Levels 20 to 22 are made for windows above 8 MiB: in blocks of 1 MiB they only cost memory.
  zstd: { mediaType: MediaType.ociLayerZstd, defaultLevel: 2, levels: [1, 19], blockBytes: MIB },
};

/** The OCI media type of a layer in this compression. */
export const layerMediaType = (compression: Compression): string => COMPRESSIONS[compression].mediaType;

/** Room for the worst case, in which a block grows: zstd adds up to 1/256 and 64 bytes, stored gzip blocks 5 bytes in 16384. */
export const grownBytes = (blockBytes: number): number => blockBytes + Math.ceil(blockBytes / 256) + 1024;
