/** The layer cache of a public repository can be read by anybody who opens a pull request: what is private should not be in it. */

import type { SavePlan } from '../cache/save.ts';
import { readRegularSync } from '../common/open-regular.ts';

/**
 * The notice for a push that leaves layers for the Actions cache, from a public repository to a registry that has our credentials;
 * undefined for any other. `env`: the runner's (GITHUB_EVENT_PATH).
 */
export function privateLayersNotice(
  env: NodeJS.ProcessEnv,
  { savePlan, usesCredentials }: { savePlan: SavePlan | undefined; usesCredentials: boolean },
): string | undefined {
  const isSaved = (savePlan?.layers.length ?? 0) > 0;
  if (!isSaved || !usesCredentials || !isPublic(env.GITHUB_EVENT_PATH)) return undefined;
  return (
    'The layers of this image are kept in the Actions cache of a public repository, where workflows of pull requests can read ' +
    'them. If the image is private, set cache: false'
  );
}

/** GitHub's own limit for the payload of an event is 25 MB. */
const LONGEST_EVENT_BYTES = 32 * 2 ** 20;

/** Whether the event that started the workflow says that its repository is public; no without an event. */
function isPublic(eventFile: string | undefined): boolean {
  if (!eventFile) return false;
  try {
    const event: unknown = JSON.parse(readRegularSync(eventFile, LONGEST_EVENT_BYTES).toString('utf8'));
    return (event as { repository?: { private?: unknown } }).repository?.private === false;
  } catch {
    return false;
  }
}
