/** The engine's own push, where the chunked one failed and the user asked for it. As cog does: never after a cancel. */
import type { Digest } from '../image/oci.ts';
import { formatReference } from '../image/reference.ts';
import type { FoundImage } from '../image/source.ts';
import { explainLine } from './error.ts';
import type { Job } from './job.ts';
import type { Target } from './target.ts';

/** Kinds of registry errors that the engine would run into just the same: wrong or missing credentials. */
const CREDENTIALS: ReadonlySet<unknown> = new Set(['auth', 'denied']);

const isCredentials = (error: unknown): boolean =>
  error instanceof Error && (CREDENTIALS.has((error as { kind?: unknown }).kind) || isCredentials(error.cause));

/** Whether the engine's own push may be tried for this failure. */
export function mayFallBack(job: Job, found: FoundImage, failure: unknown): boolean {
  return (
    job.request.fallback === 'engine' && found.push !== undefined && !job.signal.aborted && !isCredentials(failure)
  );
}

/**
 * Pushes by the engine to every target that failed for a reason that allows it, and says why. Gives the digest that
 * the engine reports; undefined when there was nothing to do. A target that fails again keeps its first failure.
 */
export async function pushByEngine(job: Job, found: FoundImage): Promise<Digest | undefined> {
  let digest: Digest | undefined;
  for (const target of job.targets) {
    if (target.alive || !mayFallBack(job, found, target.failure)) continue;
    job.report({
      type: 'warning',
      text: `The chunked push failed, ${found.engine} pushes: ${explainLine(target.failure)}`,
    });
    digest = (await pushTarget(job, found, target)) ?? digest;
  }
  return digest;
}

async function pushTarget(job: Job, found: FoundImage, target: Target): Promise<Digest | undefined> {
  let digest: Digest | undefined;
  const options = {
    insecure: job.request.insecure,
    signal: job.signal,
    debug: (text: string) => job.report({ type: 'debug', text }),
  };
  try {
    for (const { repository, references } of target.repositories) {
      for (const reference of references) {
        digest = await found.push?.(formatReference(reference), options);
        target.committed.add(`${repository.name}:${reference.tag}`);
      }
    }
  } catch (error) {
    job.signal.throwIfAborted();
    job.report({ type: 'warning', text: `The fallback failed too: ${explainLine(error)}` });
    return undefined;
  }
  target.recover();
  return digest;
}
