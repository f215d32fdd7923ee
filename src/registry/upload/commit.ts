/** T2, the last request: the closing PUT, empty, or with the last chunk, or with the whole blob. */
import type { BlobIdentity, ByteRange } from '../../blob/blob.ts';
import { isTransientStatus, RegistryError } from '../http/error.ts';
import { type Answer, judgeClose, storedOf } from './classify.ts';
import { looksLikeLimit, shrink, suspectLimit } from './resume.ts';
import type { ConfirmingCommit, State, Upload } from './upload.ts';

/** Bytes can be damaged on their way, or an offset misunderstood; a second time it is the blob, or the registry. */
const MOST_CORRUPT = 2;

/** Closes the upload with the bytes of `piece` in the body. */
export async function commit(upload: Upload, piece: ByteRange, identity: BlobIdentity): Promise<State> {
  const { session, body, traffic, signal } = upload;
  const size = piece.end - piece.start;
  const answer = await upload.sent(piece, identity.size, () => session.close(body, piece, identity, traffic, signal));
  if (answer instanceof RegistryError) return broken(upload, piece, answer);
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
      return { at: 'settle', error, idempotent: size === 0 };
    case 'closed':
    case 'corrupt':
      return corrupt(upload, error);
    case 'wants-body':
      return wantsBody(upload, identity, error);
    case 'too-large':
      return shrink(upload, piece, error);
    case 'final':
      throw error;
  }
}

/** No answer: T6 when it looks like a limit (the blob is looked for first: the answer may be all that was lost), else T8. */
function broken(upload: Upload, piece: ByteRange, error: RegistryError): State {
  if (piece.end === piece.start) return { at: 'settle', error, idempotent: true };
  if (!looksLikeLimit(upload, piece, error)) return { at: 'settle', error, idempotent: false };
  upload.looked = upload.options.force === true;
  return suspectLimit(upload, piece);
}

function closed(upload: Upload, size: number): State {
  if (size > 0) upload.host.accepted(size);
  upload.target.forget(upload.session);
  return { at: 'done', what: 'uploaded' };
}

/** Whether the registry names another sha256 digest than ours; one in another algorithm can't be compared. */
function otherDigest(answer: Answer, identity: BlobIdentity): boolean {
  const said = answer.headers['docker-content-digest'];
  return said?.startsWith('sha256:') === true && said !== identity.digest;
}

function corrupt(upload: Upload, error: RegistryError): State {
  upload.corrupt += 1;
  if (upload.corrupt >= MOST_CORRUPT) throw error;
  // serverless-registry ignores a body here without a word: do not insist on what was only a guess.
  upload.host.lastChunkInPut = upload.host.profile.lastChunkInPut ?? false;
  return { at: 'reopen', error, counted: false };
}

/** ECR once refused an empty closing request: from now on the last chunk goes in it. An empty blob has nothing to put there. */
function wantsBody(upload: Upload, identity: BlobIdentity, error: RegistryError): State {
  if (upload.host.lastChunkInPut || identity.size === 0) throw error;
  upload.host.lastChunkInPut = true;
  return { at: 'reopen', error, counted: false };
}

/** T8: the closing PUT was lost or failed in a way that says nothing: only a HEAD tells whether the blob is there. */

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
export async function confirmCommit(upload: Upload, state: ConfirmingCommit): Promise<State> {
  const identity = await upload.completed();
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
