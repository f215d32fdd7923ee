/** The registries of a push: opened once for all of its images, and what one image sees of them. */

import type { UploadSessions } from '../cache/upload-sessions.ts';
import type { Reference } from '../oci/reference.ts';
import { resolveCredentials } from '../registry/auth/stored-credentials.ts';
import { Registry } from '../registry/registry.ts';
import type { PushStats, Report } from './events.ts';
import type { ImageRequest, RequestOptions } from './options.ts';
import { TargetRegistry } from './registries.ts';
import { UploadSlots } from './slots.ts';
import { TargetRepository } from './target-repository.ts';

/** A registry that the push goes to, shared by all images of it. */
export interface RegistryHost {
  readonly registry: Registry;
  /** The uploads to it, of all images together. */
  readonly slots: UploadSlots;
}

interface Surroundings {
  readonly report: Report;
  readonly signal: AbortSignal;
}

/** The registries of all destinations, by API host. Nothing is sent yet. Throws for unusable credentials. */
export async function openRegistries(
  request: RequestOptions,
  surroundings: Surroundings,
): Promise<ReadonlyMap<string, RegistryHost>> {
  const byHost = Map.groupBy(request.destinations, ({ apiHost }) => apiHost);
  const opened = await Promise.all(
    [...byHost].map(async ([host, references]) => [host, await openRegistry(request, host, references, surroundings)]),
  );
  return new Map(opened as [string, RegistryHost][]);
}

/** One registry. Nothing is sent yet. Throws for unusable credentials. */
export async function openRegistry(
  request: RequestOptions,
  host: string,
  references: readonly Reference[],
  { report }: Surroundings,
): Promise<RegistryHost> {
  const { credentials, insecure, ca, tlsVerify, chunkSize, maxRetries, maxWait, env, concurrency } = request;
  // A secret has one owner: the other registries' credentials are found in files.
  const isOwner = host === request.destinations[0]?.apiHost;
  const repositories = [...new Set(references.map(({ repository }) => repository))];
  const found = await resolveCredentials({
    registry: host,
    ...(isOwner ? credentials : undefined),
    env,
    repositories,
    onSecret: (value) => report({ type: 'secret', value }),
  });
  if (credentials !== undefined && !isOwner) {
    const source = found.credentials === undefined ? 'none were found' : `${found.credentials.source} is used`;
    const owner = request.destinations[0]?.registry;
    const text = `The inputs username and password are for ${owner} alone; for ${references[0]?.registry} ${source}`;
    report({ type: 'info', text });
  }
  const registry = new Registry({
    host,
    insecure,
    ...(ca === undefined ? {} : { ca }),
    credentials: found.credentials,
    credentialProblems: found.problems,
    env,
    chunkSize,
    concurrency,
    maxRetries,
    maxWait,
    tlsVerify,
    onEvent: (event) => report(event),
  });
  // One token for all of them: see Registry.connect.
  for (const name of repositories) registry.repository(name);
  return { registry, slots: new UploadSlots(concurrency) };
}

/** The registries and repositories of one image, in the order of its destinations. */
export function targetsOf(
  { destinations }: Pick<ImageRequest, 'destinations'>,
  hosts: ReadonlyMap<string, RegistryHost>,
  {
    signal,
    report,
    stats,
    sessions,
  }: Surroundings & { readonly stats: PushStats; readonly sessions?: UploadSessions | undefined },
): TargetRegistry[] {
  return [...Map.groupBy(destinations, ({ apiHost }) => apiHost)].map(([host, references]) => {
    const { registry, slots } = hosts.get(host)!;
    const repositories = [...Map.groupBy(references, ({ repository }) => repository)].map(
      ([name, group]) => new TargetRepository(registry.repository(name), group, signal),
    );
    return new TargetRegistry({ report, stats, sessions, registry, repositories, slots });
  });
}

/** Ends the open upload sessions and the connections of every registry. */
export async function closeRegistries(hosts: ReadonlyMap<string, RegistryHost>): Promise<void> {
  await Promise.all([...hosts.values()].map(({ registry }) => registry.close()));
}
