import type { SavePlan } from '../cache/save.ts';
import { explainLine } from '../common/error.ts';
import { formatReference, withTarget } from '../oci/reference.ts';
import type { Digest } from '../oci/types.ts';
import type { FoundImage } from '../source/source.ts';
import type { PushContext, SharedContext } from './context.ts';
import type { BlobRecord, Seconds } from './events.ts';
import type { BlobDescription } from './image-blobs.ts';
import type { TargetRegistry } from './registries.ts';
import type { DestinationFailure } from './target-repository.ts';

interface TagRecord {
  readonly reference: string;
  /** Absent when this tag was not pushed. */
  readonly digest?: Digest;
  readonly error?: string;
}

/** A blob with the name that the log has for it, and the step that made it. */
export type NamedBlob = BlobRecord & BlobDescription;

/** The `metadata` output. */
export interface Metadata {
  readonly tags: readonly TagRecord[];
  readonly blobs: readonly NamedBlob[];
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
  /**
   * Of the manifest or index under the first tag that was pushed, as its registry serves it; undefined in a dry run.
   */
  readonly digest: Digest | undefined;
  readonly imageId: Digest;
  /** `registry/repository@digest` of the first tag. */
  readonly image: string | undefined;
  /** Every reference that was pushed, with its digest; the repositories where no tag was to move. */
  readonly digests: Readonly<Record<string, Digest>>;
  /** Whether a tag names another digest than before. */
  readonly changed: boolean;
  readonly metadata: Metadata;
  /** What the post step saves in the Actions cache. */
  readonly savePlan: SavePlan | undefined;
  /** The repositories and tags that failed; empty when all is well. */
  readonly failures: readonly DestinationFailure[];
}

/** One line a tag: the digest that it has now, or why it was not pushed. */
export function tagRecords(registries: readonly TargetRegistry[]): TagRecord[] {
  return registries
    .flatMap(({ repositories }) => repositories)
    .flatMap((target) =>
      target.references.map((written): TagRecord => {
        const reference = formatReference(written);
        const digest = target.digestOf(written);
        if (digest) return { reference, digest };
        const error = target.errorOf(written);
        return error === undefined ? { reference } : { reference, error: explainLine(error) };
      }),
    );
}

/**
 * The result of a push. Throws the failure of a push of one image to one repository only: there is nothing else to
 * report.
 */
export function resultOf(
  shared: SharedContext,
  images: readonly { readonly context: PushContext; readonly found: FoundImage }[],
  { exported, changed, savePlan }: { exported: string; changed: boolean; savePlan?: SavePlan | undefined },
): PushResult {
  const { request } = shared;
  const registries = images.flatMap(({ context }) => context.registries);
  const targets = registries.flatMap((registry) => registry.repositories);
  const failures = targets.flatMap((target) => target.failures);
  const [first] = failures;
  if (first && targets.length === 1 && !registries[0]?.isActive) throw first.error;
  const pushed = request.destinations.flatMap((reference) => {
    const digest = targets.map((target) => target.digestOf(reference)).find((one) => one !== undefined);
    return digest ? [{ reference, digest }] : [];
  });
  const [head] = pushed;
  return {
    digest: head?.digest,
    imageId: images[0]!.found.imageId,
    image: head && formatReference(withTarget(head.reference, { digest: head.digest })),
    digests: Object.fromEntries(pushed.map(({ reference, digest }) => [formatReference(reference), digest])),
    changed,
    metadata: metadataOf(registries, shared, exported),
    savePlan,
    failures,
  };
}

function metadataOf(
  registries: readonly TargetRegistry[],
  { stats, names, spool }: SharedContext,
  exported: string,
): Metadata {
  const limits = registries.flatMap(({ host, registry }) =>
    registry.limitFound === undefined ? [] : [[host, registry.limitFound] as const],
  );
  return {
    tags: tagRecords(registries),
    blobs: stats.blobs.map((blob) => ({ ...names.describe(blob), ...blob })),
    bytesSent: stats.blobs.reduce((sum, { bytesSent }) => sum + bytesSent, 0),
    bytesResent: stats.blobs.reduce((sum, { bytesResent }) => sum + bytesResent, 0),
    export: exported,
    limits: Object.fromEntries(limits),
    spoolPeak: spool.made?.peakBytes ?? 0,
    seconds: stats.close(),
  };
}
