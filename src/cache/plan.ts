/** What the post step is to save, decided while the push still knows what each layer cost. */
import type { Digest } from '../image/oci.ts';

/** A file that is to become an entry of the Actions cache. */
export interface PlannedEntry {
  readonly key: string;
  /** The name of the file in the entry. */
  readonly file: string;
  /** Where the file lies until it is saved. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
}

/** JSON that the main step leaves for the post step. */
export interface SavePlan {
  readonly version: 1;
  /** A folder of the post step alone, made and removed by it. */
  readonly workspace: string;
  readonly pointers: readonly PlannedEntry[];
  readonly layers: readonly PlannedEntry[];
  /** Layers that are not saved, each with the reason. */
  readonly dropped: readonly { readonly diffId: Digest; readonly size: number; readonly why: string }[];
}

/** A layer that could be saved: its bytes, and the seconds that somebody who has them saves. */
export interface Candidate {
  readonly diffId: Digest;
  readonly size: number;
  readonly secondsToMake: number;
}

/** Restoring an entry costs a call, a download, tar and a process each: measured at 50 ms with a service on the same machine. */
const MIN_LAYER_BYTES = 32 * 1024;

/** A repository may make 200 new entries a minute, for all of its jobs. */
const MAX_LAYERS = 50;

/**
 * Chooses what to save: at most `maxSize` bytes, and if that is less than there is, what saves the fewest seconds a byte is
 * dropped first. Small layers are not worth an entry.
 */
export function choose<T extends Candidate>(layers: readonly T[], maxSize: number) {
  const dropped: { layer: T; why: string }[] = [];
  const kept: T[] = [];
  let bytes = 0;
  for (const layer of [...layers].sort((a, b) => b.secondsToMake / b.size - a.secondsToMake / a.size)) {
    const why = reasonAgainst(layer, kept.length, bytes, maxSize);
    if (why) dropped.push({ layer, why });
    else {
      kept.push(layer);
      bytes += layer.size;
    }
  }
  return { kept, dropped };
}

function reasonAgainst({ size }: Candidate, count: number, bytes: number, maxSize: number): string | undefined {
  if (size < MIN_LAYER_BYTES) return 'quicker compressed again than restored';
  if (bytes + size > maxSize) return `over cache-max-size (${maxSize} bytes)`;
  return count >= MAX_LAYERS ? `over ${MAX_LAYERS} new entries` : undefined;
}
