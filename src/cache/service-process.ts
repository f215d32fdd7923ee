/**
 * A process of its own for @actions/cache: started by service.ts, with a private folder as working folder and as
 * GITHUB_WORKSPACE. So paths in entries (and the entries' versions, which hash them) are the same on every machine,
 * what @actions/cache writes to the log is caught, and a call that hangs can be ended. Ends when its parent does.
 */

import { AsyncLocalStorage } from 'node:async_hooks';
import { isFeatureAvailable, restoreCache, saveCache } from '@actions/cache';
import { ENTRIES, type ServiceAnswer, type ServiceReady, type ServiceRequest } from './service.ts';

// Layers hold source code and sometimes secrets: what tar unpacks here is for this user alone.
process.umask(0o077);

/** The lines of the request in whose name something is written. */
const log = new AsyncLocalStorage<string[]>();

process.stdout.write = ((text: string | Uint8Array) => {
  log.getStore()?.push(String(text).trimEnd());
  return true;
}) as typeof process.stdout.write;

process.on('message', (request: ServiceRequest) => void answer(request));
process.on('disconnect', () => process.exit());
send({ ready: true, available: isFeatureAvailable() });

async function answer(request: ServiceRequest): Promise<void> {
  const lines: string[] = [];
  const key = await log
    .run(lines, () => perform(request))
    .catch((error: unknown) => void lines.push(`Failed: ${error}`));
  send({ id: request.id, lines, ...(key ? { key } : {}) });
}

async function perform({ action, key, file }: ServiceRequest): Promise<string | undefined> {
  const paths = [`${ENTRIES}/${file}`];
  if (action === 'save') return (await saveCache(paths, key)) >= 0 ? key : undefined;
  return restoreCache(paths, key, [], { lookupOnly: action === 'lookup' });
}

function send(message: ServiceAnswer | ServiceReady): void {
  if (process.connected) process.send?.(message);
}
