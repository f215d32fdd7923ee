/** Whether a piece is in every target already, so that nothing of it moves. The registry's word counts, not a hint's. */
import type { Descriptor } from '../oci/types.ts';
import { activeRegistries, type PushContext } from './context.ts';
import type { BlobFate } from './events.ts';
import { type ImageBlob, shortDigest } from './image-blobs.ts';
import type { TargetRegistry } from './registries.ts';

/**
 * The blob that stands for a piece, if every living target has it (by HEAD) or takes it by a mount; undefined when it
 * must be sent. A target that can't be asked has failed.
 */
export async function findExisting(job: PushContext, piece: ImageBlob): Promise<Descriptor | undefined> {
  for (const candidate of await candidatesOf(job, piece)) {
    const targets = activeRegistries(job);
    const answers = await Promise.all(
      targets.map((target) => {
        const from = job.known.repositories(target.host, candidate.digest);
        return target.existsOrMount(candidate.digest, from, candidate.size || undefined);
      }),
    );
    activeRegistries(job);
    const told = targets
      .map((target, index) => ({ target, answer: answers[index] }))
      .filter(({ target }) => target.isActive);
    if (!told.every(({ answer }) => answer !== undefined && isThatBlob(piece, candidate, answer))) continue;
    for (const { target, answer } of told) note(job, target, piece, candidate, answer?.fate ?? 'exists');
    return candidate;
  }
  return undefined;
}

/** The blobs that may stand for a piece: itself, or for a plain layer what is known, and was learnt, of compressed ones. */
export async function candidatesOf(job: PushContext, piece: ImageBlob): Promise<readonly Descriptor[]> {
  const { key, mediaType, size } = piece;
  if (!piece.plain) return [{ mediaType, digest: key, size: size ?? 0 }];
  await job.readKnownLayers();
  return job.known.candidates(key);
}

/** A hint that gives another size than the registry does is wrong about something: it is not used. */
function isThatBlob(piece: ImageBlob, candidate: Descriptor, answer: { size?: number }): boolean {
  return !piece.plain || answer.size === undefined || answer.size === candidate.size;
}

function note(
  job: PushContext,
  target: TargetRegistry,
  piece: ImageBlob,
  descriptor: Descriptor,
  fate: BlobFate,
): void {
  const { digest, size, mediaType } = descriptor;
  const what = { fate, fromCache: false, retries: 0, seconds: 0 };
  job.report({ type: 'blob-end', label: shortDigest(piece.key), host: target.host, digest, size, ...what });
  job.stats.enter({
    digest,
    size,
    mediaType,
    ...(piece.diffId === undefined ? {} : { diffId: piece.diffId }),
    registry: target.host,
    what: fate,
    fromCache: false,
    bytesSent: 0,
    bytesResent: 0,
    retries: 0,
    seconds: 0,
  });
}
