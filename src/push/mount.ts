/** Where a blob is mounted from, and how often that is tried. */

/** Below this a mount that is refused costs as much as sending the blob, bytes. */
const SMALL = 100 * 1024;
const MIDDLE = 10 * 1024 * 1024;

/**
 * The repositories to try, the likeliest first, of those that are thought to have a blob of `size` bytes. As moby does
 * (distribution/push_v2.go, getMaxMountAndExistenceCheckAttempts and getRepositoryMountCandidates): the more there is to
 * send, the more tries it is worth; and who shares more of the path is likelier to let us read.
 */
export function mountSources(from: readonly string[], into: string, size: number | undefined): readonly string[] {
  const sources = from.filter((name) => name !== into);
  return sources.sort((a, b) => sharedPath(b, into) - sharedPath(a, into)).slice(0, triesFor(size));
}

function triesFor(size: number | undefined): number {
  if (size === undefined) return 3;
  if (size > MIDDLE) return 4;
  return size > SMALL ? 3 : 1;
}

/** Path components that two repositories have in common from the left. */
function sharedPath(a: string, b: string): number {
  const [left, right] = [a.split('/'), b.split('/')];
  const differs = left.findIndex((component, index) => component !== right[index]);
  return differs < 0 ? left.length : differs;
}
