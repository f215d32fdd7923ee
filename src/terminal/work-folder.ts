/** Where the command keeps layers for the next push, or for this one alone. */

import { constants } from 'node:fs';
import { access, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cacheFolder } from '../common/platform.ts';

interface WorkFolder {
  readonly path: string;
  /** Why it is not the one that lasts; undefined when it is. */
  readonly reason?: string;
  close(): Promise<void>;
}

/**
 * The cache folder of this user. A user without a home, or with one that can't be written (containers of CI systems),
 * gets a temporary folder that goes with this push; where that can't be made either, the push says so itself.
 */
export async function openWorkFolder(env: NodeJS.ProcessEnv): Promise<WorkFolder> {
  const path = cacheFolder(env);
  const lasting = { path, close: async () => {} };
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    await access(path, constants.W_OK | constants.X_OK);
    return lasting;
  } catch (error) {
    const temporary = await mkdtemp(join(tmpdir(), 'chunked-push-')).catch(() => undefined);
    if (temporary === undefined) return lasting;
    const reason = `${path} can't be written (${(error as NodeJS.ErrnoException).code}): no layers are kept for the next push`;
    return { path: temporary, reason, close: () => rm(temporary, { recursive: true, force: true }) };
  }
}
