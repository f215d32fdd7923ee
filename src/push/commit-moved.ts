/** Commits what was moved, and sends again what registries then deny (registry rules, T9). */
import type { Descriptor, Digest } from '../image/oci.ts';
import type { FoundImage } from '../image/source.ts';
import { commit, type Denied, documentsOf } from './commit.ts';
import type { KeptLayer } from './deliveries.ts';
import { PushError } from './error.ts';
import type { Job } from './job.ts';
import { type Moved, move } from './move.ts';

/**
 * Puts the manifests of what was moved. Blobs that a repository then denies are sent again without believing its HEAD,
 * once: some answer HEAD from a fallback or for a blob that is being deleted. Gives what was moved in the end. Only the
 * repositories that denied something can fail by this.
 */
export async function commitMoved(job: Job, found: FoundImage, moved: Moved): Promise<Moved> {
  const denied = await commit(job, documentsOf(moved.tree, moved.compressed));
  if (denied.size === 0) return moved;
  const digests = new Set([...denied.values()].flat());
  job.report({ type: 'notice', text: `The registry lacks ${[...digests].join(', ')} after all: sending it again` });
  const destinations = new Set(denied.keys());
  try {
    const again = await move(job, found, { pieces: keysOf(digests, moved.compressed), destinations });
    job.report({ type: 'phase', phase: 'Manifest' });
    const still = await commit(job, documentsOf(again.tree, again.compressed));
    for (const [destination, lacking] of still) destination.fail(deniedError(destination.name, lacking));
    const exported = again.exported === 'nothing' ? moved.exported : again.exported;
    return { ...again, exported, kept: keptOfBoth(moved.kept, again.kept) };
  } catch (error) {
    job.signal.throwIfAborted();
    failDenied(denied, error);
    return moved;
  }
}

function failDenied(denied: Denied, error: unknown): void {
  for (const destination of denied.keys()) destination.fail(error);
}

/** What was made in the first round is only found to be there in the second: its file is still worth keeping. */
function keptOfBoth(first: readonly KeptLayer[], again: readonly KeptLayer[]): KeptLayer[] {
  return again.map((layer) => {
    const same = ({ diffId, descriptor }: KeptLayer) =>
      diffId === layer.diffId && descriptor.digest === layer.descriptor.digest;
    return layer.path ? layer : (first.find(same) ?? layer);
  });
}

/** The pieces that blobs stand for: a compressed layer is known to its source by its diffID. */
function keysOf(digests: ReadonlySet<Digest>, compressed: ReadonlyMap<Digest, Descriptor>): ReadonlySet<Digest> {
  const plain = [...compressed].filter(([, { digest }]) => digests.has(digest)).map(([diffId]) => diffId);
  return new Set([...digests, ...plain]);
}

const deniedError = (name: string, digests: readonly Digest[]): PushError =>
  new PushError('Manifest', `${name} took ${digests.join(', ')} and then says that it is unknown, twice`, {
    remedy: 'look at the registry and its storage: it loses blobs that it has confirmed',
  });
