/** The engine's own push, where the chunked one failed and the user asked for it. As cog does: never after a cancel. */
import { formatReference, type Reference } from '../oci/reference.ts';
import { withTemporaryLogin } from '../registry/auth/temporary-login.ts';
import type { FoundImage } from '../source/source.ts';
import type { PushContext } from './context.ts';
import { explainLine } from './error.ts';
import type { TargetRepository } from './target-repository.ts';

/** Kinds of registry errors that the engine would run into just the same: wrong or missing credentials. */
const CREDENTIALS: ReadonlySet<unknown> = new Set(['auth', 'denied']);

const isCredentials = (error: unknown): boolean =>
  error instanceof Error && (CREDENTIALS.has((error as { kind?: unknown }).kind) || isCredentials(error.cause));

/** Whether the engine's own push may be tried for this failure. */
export function mayFallBack(job: PushContext, found: FoundImage, failure: unknown): boolean {
  return (
    job.request.fallback === 'engine' && found.push !== undefined && !job.signal.aborted && !isCredentials(failure)
  );
}

/**
 * Pushes by the engine what failed for a reason that allows it, and says why. A tag that fails again keeps its first
 * failure.
 */
export async function pushByEngine(job: PushContext, found: FoundImage): Promise<void> {
  for (const target of job.registries.flatMap(({ repositories }) => repositories)) {
    const failed = target.unpushed.filter((reference) => {
      const error = target.errorOf(reference);
      return error !== undefined && mayFallBack(job, found, error);
    });
    const [first] = failed;
    if (!first) continue;
    const why = explainLine(target.errorOf(first));
    job.report({ type: 'warning', text: `The chunked push failed, ${found.engine} pushes: ${why}` });
    for (const reference of failed) await pushTag(job, found, target, reference);
  }
}

async function pushTag(job: PushContext, found: FoundImage, to: TargetRepository, reference: Reference): Promise<void> {
  const { credentials, destinations, insecure, tlsVerify, env } = job.request;
  const options = {
    insecure: insecure || !tlsVerify,
    signal: job.signal,
    debug: (text: string) => job.report({ type: 'debug', text }),
  };
  const byEngine = (env?: NodeJS.ProcessEnv) => found.push?.(formatReference(reference), { ...options, env });
  // The inputs belong to the registry of the first tag. The engine finds all others where we do.
  const isOwner = reference.apiHost === destinations[0]?.apiHost;
  try {
    const digest =
      credentials === undefined || !isOwner
        ? await byEngine()
        : await withTemporaryLogin({ registry: reference.registry, ...credentials, env }, async (env) => byEngine(env));
    if (digest) to.confirm(reference, digest);
  } catch (error) {
    job.signal.throwIfAborted();
    job.report({ type: 'warning', text: `The fallback failed too: ${explainLine(error)}` });
  }
}
