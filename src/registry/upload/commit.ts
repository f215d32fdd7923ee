/** The closing PUT: empty, or with the last chunk, or with the complete blob; and the question whether it worked. */
import type { BlobIdentity, ByteRange } from '../../blob/blob.ts';
import { isTransientStatus, RegistryError } from '../http/error.ts';
import { type BlobUpload, type ConfirmingCommit, type State, wasCutOff } from './blob-upload.ts';
import { type Answer, judgeClose, storedOf } from './classify.ts';
import { looksLikeLimit, noteBreak, sendAgain, shrink, suspectLimit } from './resume.ts';

/** Bytes can be damaged on their way, or an offset misunderstood; a second time it is the blob, or the registry. */
const MOST_CORRUPT = 2;

/** Closes the upload with the bytes of `range` in the body. */
export async function commit(upload: BlobUpload, range: ByteRange, identity: BlobIdentity): Promise<State> {
  const { session, body, metrics } = upload;
  const size = range.end - range.start;
  const send = (signal: AbortSignal): Promise<Answer> => session.close(body, range, identity, metrics, signal);
  const answer = await upload.sent(range, identity.size, send);
  if (answer instanceof RegistryError) return broken(upload, range, answer);
  const verdict = judgeClose(answer, size);
  if (verdict.is === 'closed' && !otherDigest(answer, identity)) return closed(upload, size);
  const error =
    answer.error ??
    upload.oddity('PUT', `it stored ${answer.headers['docker-content-digest']} instead of ${identity.digest}`);
  switch (verdict.is) {
    case 'busy':
      await upload.failed(error);
      return { at: 'send' };
    case 'doubtful':
      if (size > 0) noteBreak(upload, range, error);
      return { at: 'confirmCommit', error, idempotent: size === 0 };
    case 'closed':
    case 'corrupt':
      return corrupt(upload, error);
    case 'wants-body':
      return wantsBody(upload, identity, error);
    case 'too-large':
      return shrink(upload, range, error);
    case 'final':
      throw error;
  }
}

/** No answer. Where it looks like a limit, the blob is looked for first: the answer may be all that was lost. */
async function broken(upload: BlobUpload, range: ByteRange, error: RegistryError): Promise<State> {
  if (error.unsent) return sendAgain(upload, error);
  if (range.end === range.start) return { at: 'confirmCommit', error, idempotent: true };
  if (looksLikeLimit(upload, range, error)) {
    upload.asked = upload.options.uploadAgain === true;
    return suspectLimit(upload, range);
  }
  noteBreak(upload, range, error);
  // The registry has not seen its end: only the session is lost, which has nothing in it.
  if (wasCutOff(error)) return { at: 'restart', error, counted: true };
  return { at: 'confirmCommit', error, idempotent: false };
}

function closed(upload: BlobUpload, size: number): State {
  if (size > 0) {
    upload.host.accepted(size);
    upload.host.measured(size, upload.metrics.lastMs);
  }
  upload.closed();
  return { at: 'done', what: 'uploaded' };
}

/** Whether the registry names another sha256 digest than ours; one in another algorithm can't be compared. */
function otherDigest(answer: Answer, identity: BlobIdentity): boolean {
  const said = answer.headers['docker-content-digest'];
  return said?.startsWith('sha256:') === true && said !== identity.digest;
}

function corrupt(upload: BlobUpload, error: RegistryError): State {
  upload.corrupt += 1;
  if (upload.corrupt >= MOST_CORRUPT) throw error;
  // Registries whose storage wants equal parts (R2) fail at the close only.
  if (upload.session.hasUnequalChunks) upload.host.needsEqual = true;
  // serverless-registry ignores a body here without a word: do not insist on what was only a guess.
  upload.host.lastChunkInPut = upload.host.profile.lastChunkInPut ?? false;
  return { at: 'restart', error, counted: false };
}

/**
 * ECR once refused an empty closing request: from now on the last chunk goes in it. An empty blob has nothing to put
 * there.
 */
function wantsBody(upload: BlobUpload, identity: BlobIdentity, error: RegistryError): State {
  if (upload.host.lastChunkInPut || identity.size === 0) throw error;
  upload.host.lastChunkInPut = true;
  return { at: 'restart', error, counted: false };
}

// The closing PUT was lost or failed in a way that says nothing: only a HEAD tells whether the blob is there.

/**
 * Pauses before each HEAD, ms: a registry that has just restarted, or finishes in the background, needs a few seconds.
 */
const POLL_MS = [0, 500, 1_500, 3_000] as const;

/** Statuses under which the server is probably still at work (524: Cloudflare after 100 s). */
const STILL_WORKING: ReadonlySet<number> = new Set([408, 504, 524]);

/** While the server is still at work, one HEAD in this time, ms … */
const PATIENT_POLL_MS = 5_000;

/** … for as long as it takes to read the blob again at 10 MB/s … */
const READING_BYTES_PER_MS = 10_000;

/** … but not longer than this. */
const LONGEST_PATIENCE_MS = 120_000;

/** Polls; the blob is there: done; else the same closing request once more where that is safe, else a new session. */
export async function confirmCommit(upload: BlobUpload, state: ConfirmingCommit): Promise<State> {
  const identity = await upload.completed();
  if (upload.options.uploadAgain !== true && (await appears(upload, identity, state.error))) {
    upload.target.forget(upload.session);
    return { at: 'done', what: 'uploaded' };
  }
  if (!upload.limits.closingFailed()) {
    throw upload.gaveUp(
      `${upload.limits.closingFailures} failed tries to close it (max-retries: ${upload.context.maxRetries})`,
      state.error,
    );
  }
  if (upload.session.hasUnequalChunks) upload.host.needsEqual = true;
  await upload.failed(state.error);
  if (state.idempotent && (await stillComplete(upload, identity))) return { at: 'send' };
  return { at: 'restart', error: state.error, counted: true };
}

async function appears(upload: BlobUpload, identity: BlobIdentity, error: RegistryError): Promise<boolean> {
  for (const ms of pauses(identity, error)) {
    if (ms > 0) await upload.context.backoff.clock.sleep(ms, upload.signal);
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
 * Whether the session still holds the complete blob: an empty closing request may then be sent again, once a session.
 * Once, because serverless-registry says 204 of a session that it can't close any more.
 */
async function stillComplete(upload: BlobUpload, identity: BlobIdentity): Promise<boolean> {
  const { session } = upload;
  if (session.closedAgain) return false;
  session.closedAgain = true;
  const answer = await status(upload);
  if (answer.error !== undefined) return false;
  return storedOf(answer, { start: identity.size, end: identity.size }) === identity.size;
}

/** 500 is what broken sessions answer for ever. */
const isPassing = (status: number): boolean => status !== 500 && isTransientStatus(status);

/**
 * What the registry says of the session, asked until the answer is more than passing trouble: all of the blob may be in
 * it.
 */
async function status(upload: BlobUpload): Promise<Answer> {
  for (;;) {
    const answer = await upload.tried(() => upload.session.status(upload.signal));
    if (answer instanceof RegistryError) await upload.failed(answer);
    else if (answer.error !== undefined && isPassing(answer.status)) await upload.failed(answer.error);
    else return answer;
  }
}
