import type { SavePlan } from '../cache/save.ts';
import { formatReference } from '../oci/reference.ts';
import type { Digest } from '../oci/types.ts';
import { explainLine } from './error.ts';
import type { TargetRegistry } from './registries.ts';
import type { BlobRecord, PushStats, Seconds } from './stats.ts';
import type { DestinationFailure } from './target-repository.ts';

export interface TagRecord {
  readonly reference: string;
  /** Absent when this tag was not pushed. */
  readonly digest?: Digest;
  readonly error?: string;
}

/** The `metadata` output. */
export interface Metadata {
  readonly tags: readonly TagRecord[];
  readonly blobs: readonly BlobRecord[];
  /** Bytes of blobs sent in all, and those of them that were sent more than once. */
  readonly bytesSent: number;
  readonly bytesResent: number;
  /** Where the bytes came from; "nothing" when nothing was exported. */
  readonly export: string;
  /** The largest request body that each registry announced or was found to take, bytes. */
  readonly limits: Readonly<Record<string, number>>;
  /** The most that the spool held at once, bytes. */
  readonly spoolPeak: number;
  readonly seconds: Seconds;
}

export interface PushResult {
  /** Of the manifest or index under the first tag that was pushed, as its registry serves it; undefined in a dry run. */
  readonly digest: Digest | undefined;
  readonly imageId: Digest;
  /** `registry/repository@digest` of the first tag. */
  readonly image: string | undefined;
  readonly metadata: Metadata;
  /** What the post step saves in the Actions cache. */
  readonly savePlan: SavePlan | undefined;
  /** The repositories and tags that failed; empty when all is well. */
  readonly failures: readonly DestinationFailure[];
}

/** One line a tag: the digest that it has now, or why it was not pushed. */
export function tagRecords(targets: readonly TargetRegistry[]): TagRecord[] {
  return targets
    .flatMap(({ repositories: destinations }) => destinations)
    .flatMap((destination) =>
      destination.references.map((written): TagRecord => {
        const reference = formatReference(written);
        const digest = destination.digestOf(written);
        if (digest) return { reference, digest };
        const error = destination.errorOf(written);
        return error === undefined ? { reference } : { reference, error: explainLine(error) };
      }),
    );
}

/** Closes the books into the `metadata` output. */
export function metadataOf(options: {
  targets: readonly TargetRegistry[];
  ledger: PushStats;
  exported: string;
  spoolPeak: number;
}): Metadata {
  const { targets, ledger } = options;
  const limits = targets.flatMap(({ host, registry }) =>
    registry.limitFound === undefined ? [] : [[host, registry.limitFound] as const],
  );
  return {
    tags: tagRecords(targets),
    blobs: ledger.blobs,
    bytesSent: ledger.blobs.reduce((sum, { bytesSent }) => sum + bytesSent, 0),
    bytesResent: ledger.blobs.reduce((sum, { bytesResent }) => sum + bytesResent, 0),
    export: options.exported,
    limits: Object.fromEntries(limits),
    spoolPeak: options.spoolPeak,
    seconds: ledger.close(),
  };
}
