/** Who can read what is saved in the Actions cache. */

import { readFileSync } from 'node:fs';

/**
 * What the log should say when layers of a push with credentials are saved in the Actions cache of a public repository; undefined
 * otherwise. Anybody may open a pull request there, and a workflow that it starts may restore every entry of its base branch:
 * https://docs.github.com/actions/reference/workflows-and-actions/dependency-caching#restrictions-for-accessing-a-cache
 */
export function publicCacheNotice(env: NodeJS.ProcessEnv): string | undefined {
  if (!isPublicRepository(env)) return undefined;
  return 'layer cache: this repository is public, so pull requests from anybody can read the layers that are saved in its Actions cache; set cache: false if the image is private';
}

/** Whether the event that started the workflow says that its repository is public. Without a word about it: no. */
function isPublicRepository(env: NodeJS.ProcessEnv): boolean {
  try {
    const event: unknown = JSON.parse(readFileSync(env.GITHUB_EVENT_PATH ?? '', 'utf8'));
    const { repository } = event as { repository?: { private?: unknown; visibility?: unknown } };
    return repository?.private === false && (repository.visibility ?? 'public') === 'public';
  } catch {
    return false;
  }
}
