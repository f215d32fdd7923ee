/** T8: the closing PUT was lost or failed in a way that says nothing: only a HEAD tells whether the blob is there. */
import type { BlobIdentity } from '../body.ts';
import { RegistryError } from '../error.ts';
import { isTransientStatus } from '../status.ts';
import type { Settling, State } from './state.ts';
import type { Upload } from './upload.ts';
import { type Answer, storedOf } from './verdict.ts';

/** Pauses before each HEAD, ms: a registry that has just restarted, or finishes in the background, needs a few seconds. */
const POLL_MS = [0, 500, 1_500, 3_000] as const;

/** Statuses under which the server is probably still at work (524: Cloudflare after 100 s). */
const STILL_WORKING: ReadonlySet<number> = new Set([408, 504, 524]);

/** While the server is still at work, one HEAD in so many ms … */
const PATIENT_POLL_MS = 5_000;

/** … for as long as it takes to read the blob again at 10 MB/s … */
const READING_BYTES_PER_MS = 10_000;

/** … but not longer than this. */
const LONGEST_PATIENCE_MS = 120_000;

/** Polls; the blob is there: done; else the same closing request once more where that is safe, else T5. */
export async function settle(upload: Upload, state: Settling): Promise<State> {
  const identity = await upload.whole();
  if (upload.options.force !== true && (await appears(upload, identity, state.error))) {
    upload.target.forget(upload.session);
    return { at: 'done', what: 'uploaded' };
  }
  if (!upload.budget.closingFailed()) {
    throw upload.gaveUp(`${upload.budget.closingFailures} failed tries to close it`, state.error);
  }
  await upload.failed(state.error);
  if (state.idempotent && (await stillComplete(upload, identity))) return { at: 'send' };
  return { at: 'reopen', error: state.error, counted: true };
}

async function appears(upload: Upload, identity: BlobIdentity, error: RegistryError): Promise<boolean> {
  for (const ms of pauses(identity, error)) {
    if (ms > 0) await upload.context.sleep(ms, upload.signal);
    if (await upload.exists(identity)) return true;
  }
  return false;
}

function pauses({ size }: BlobIdentity, error: RegistryError): readonly number[] {
  if (error.kind !== 'timeout' && !STILL_WORKING.has(error.status ?? 0)) return POLL_MS;
  const patience = Math.min(size / READING_BYTES_PER_MS, LONGEST_PATIENCE_MS);
  return [...POLL_MS, ...Array<number>(Math.ceil(patience / PATIENT_POLL_MS)).fill(PATIENT_POLL_MS)];
}

/**
 * Whether the session still holds the whole blob: an empty closing request may then be sent again, once a session.
 * Once, because serverless-registry says 204 of a session that it can't close any more.
 */
async function stillComplete(upload: Upload, identity: BlobIdentity): Promise<boolean> {
  const { session } = upload;
  if (session.closedAgain) return false;
  session.closedAgain = true;
  const answer = await status(upload);
  if (answer.error !== undefined) return false;
  return storedOf(answer, { start: identity.size, end: identity.size }) === identity.size;
}

/** 500 is what broken sessions answer for ever. */
const isPassing = (status: number): boolean => status !== 500 && isTransientStatus(status);

/** What the session says of itself, asked until the answer is more than passing trouble: all of the blob may be in it. */
async function status(upload: Upload): Promise<Answer> {
  for (;;) {
    const answer = await upload.tried(() => upload.session.status(upload.signal));
    if (answer instanceof RegistryError) await upload.failed(answer);
    else if (answer.error !== undefined && isPassing(answer.status)) await upload.failed(answer.error);
    else return answer;
  }
}
