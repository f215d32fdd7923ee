/** Opens the targets: one for each registry, with its repositories and their tags. */
import type { Reference } from '../image/reference.ts';
import { resolveCredentials } from '../registry/credentials/credentials.ts';
import { Registry } from '../registry/registry.ts';
import { Destination } from './destination.ts';
import type { Report } from './events.ts';
import type { Ledger } from './ledger.ts';
import type { PushRequest } from './request.ts';
import { Target } from './target.ts';

interface Context {
  readonly report: Report;
  readonly signal: AbortSignal;
  readonly ledger: Ledger;
}

/** One target a registry, in the order of the request's destinations. Nothing is sent yet. Throws for unusable credentials. */
export async function openTargets(request: PushRequest, context: Context): Promise<Target[]> {
  const byHost = Map.groupBy(request.destinations, ({ apiHost }) => apiHost);
  return Promise.all([...byHost].map(([host, references]) => openTarget(request, host, references, context)));
}

async function openTarget(
  request: PushRequest,
  host: string,
  references: readonly Reference[],
  context: Context,
): Promise<Target> {
  const { credentials, insecure, ca, chunkSize, maxRetries, env, concurrency } = request;
  const byRepository = Map.groupBy(references, ({ repository }) => repository);
  const found = await resolveCredentials({
    registry: host,
    ...credentials,
    env,
    repositories: [...byRepository.keys()],
    onSecret: (value) => context.report({ type: 'secret', value }),
  });
  const registry = new Registry({
    host,
    insecure,
    ...(ca === undefined ? {} : { ca }),
    ...(found === undefined ? {} : { credentials: found }),
    env,
    chunkSize,
    maxRetries,
    onEvent: (event) => context.report(event),
  });
  const destinations = [...byRepository].map(
    ([name, group]) => new Destination(registry.repository(name), group, context.signal),
  );
  return new Target({ ...context, registry, destinations, concurrency });
}

/** Ends the open upload sessions and the connections of every target. */
export async function closeTargets(targets: readonly Target[]): Promise<void> {
  await Promise.all(targets.map(({ registry }) => registry.close()));
}
