/** Commits what was moved, and sends again what registries then deny (registry rules, T9). */
import type { Descriptor, Digest } from '../image/oci.ts';
import type { FoundImage } from '../image/source.ts';
import { commit, type Denied, documentsOf } from './commit.ts';
import type { KeptLayer } from './deliveries.ts';
import { PushError } from './error.ts';
import type { Job } from './job.ts';
import { type Moved, move } from './move.ts';
import { piecesOf } from './pieces.ts';

/**
 * Rounds of sending again. In the first only what was named is sent; serverless-registry names one blob at a time, so after
 * a second denial its HEAD is not believed for any blob.
 */
const ROUNDS = 2;

/**
 * Puts the manifests of what was moved. Blobs that a repository then denies are sent again without believing its HEAD:
 * some answer HEAD from a fallback or for a blob that is being deleted. Gives what was moved in the end. Only the
 * repositories that denied something can fail by this.
 */
export async function commitMoved(job: Job, found: FoundImage, first: Moved): Promise<Moved> {
  let moved = first;
  let denied = await commit(job, documentsOf(moved.tree, moved.compressed));
  const sent = new Set<Digest>();
  for (let round = 1; round <= ROUNDS && denied.size > 0; round += 1) {
    failTwiceDenied(denied, sent);
    const wanted = new Set(round === 1 ? [...denied.values()].flat() : digestsOf(moved));
    for (const digest of sent) wanted.delete(digest);
    if (![...denied.keys()].some(({ alive }) => alive)) return moved;
    const names = [...denied.values()].flat().join(', ');
    job.report({ type: 'notice', text: `The registry lacks ${names} after all: sending it again` });
    try {
      moved = await moveAgain(job, found, moved, wanted, denied);
      for (const digest of wanted) sent.add(digest);
      denied = await commit(job, documentsOf(moved.tree, moved.compressed));
    } catch (error) {
      job.signal.throwIfAborted();
      for (const destination of denied.keys()) destination.fail(error);
      return moved;
    }
  }
  failTwiceDenied(denied, sent);
  return moved;
}

async function moveAgain(
  job: Job,
  found: FoundImage,
  before: Moved,
  digests: ReadonlySet<Digest>,
  denied: Denied,
): Promise<Moved> {
  const force = { pieces: keysOf(digests, before.compressed), destinations: new Set(denied.keys()) };
  const again = await move(job, found, force);
  job.report({ type: 'phase', phase: 'Manifest' });
  const exported = again.exported === 'nothing' ? before.exported : again.exported;
  return { ...again, exported, kept: keptOfBoth(before.kept, again.kept) };
}

/** Every blob of what was moved. */
function digestsOf({ tree, compressed }: Moved): Digest[] {
  return piecesOf(tree).map(({ key, plain }) => (plain ? (compressed.get(key)?.digest ?? key) : key));
}

/** The pieces that blobs stand for: a compressed layer is known to its source by its diffID. */
function keysOf(digests: ReadonlySet<Digest>, compressed: ReadonlyMap<Digest, Descriptor>): ReadonlySet<Digest> {
  const plain = [...compressed].filter(([, { digest }]) => digests.has(digest)).map(([diffId]) => diffId);
  return new Set([...digests, ...plain]);
}

/** What was made in an earlier round is only found to be there in a later one: its file is still worth keeping. */
function keptOfBoth(first: readonly KeptLayer[], again: readonly KeptLayer[]): KeptLayer[] {
  return again.map((layer) => {
    const same = ({ diffId, descriptor }: KeptLayer) =>
      diffId === layer.diffId && descriptor.digest === layer.descriptor.digest;
    return layer.path ? layer : (first.find(same) ?? layer);
  });
}

function failTwiceDenied(denied: Denied, sent: ReadonlySet<Digest>): void {
  for (const [destination, digests] of denied) {
    const lost = digests.filter((digest) => sent.has(digest));
    if (lost.length === 0) continue;
    const what = `${destination.name} took ${lost.join(', ')} and then says that it is unknown, twice`;
    const remedy = 'look at the registry and its storage: it loses blobs that it has confirmed';
    destination.fail(new PushError('Manifest', what, { remedy }));
  }
}
