/**
 * The upload of one blob as a state machine. distribution-spec, section "Pushing blobs".
 *
 *   checkExists    HEAD                 there: done            absent: openSession, or send where a session is open
 *   openSession    POST (mount)         mounted: done          202: send
 *   send           PATCH, in the end PUT                       stored: send        closed: done
 *                    PATCH in doubt: queryStatus               PUT in doubt: confirmCommit
 *                    session gone: restart                     too large: checkExists, with smaller chunks
 *                                                              no chunks here: checkExists, then one PUT
 *   queryStatus    wait, GET            offset known: send     session gone: restart
 *   confirmCommit  HEAD, HEAD, ...      there: done            absent: send (an empty PUT, once), else restart
 *   restart        DELETE               checkExists
 *
 * What keeps it finite: every failure is counted (host/patience.ts, UploadLimits in metrics.ts), every refused or broken
 * size is halved, that there are no chunks is found once.
 */
import type { BlobIdentity } from '../../blob/blob.ts';
import { RegistryError } from '../http/error.ts';
import type { BlobOutcome, BlobUpload, Restarting, State } from './blob-upload.ts';
import { storedOf } from './classify.ts';
import { confirmCommit } from './commit.ts';
import { queryStatus } from './resume.ts';
import { send } from './send.ts';

/** Takes one step from a state that is not the last one. */
function step(upload: BlobUpload, state: Exclude<State, { at: 'done' }>): Promise<State> {
  switch (state.at) {
    case 'checkExists':
      return checkExists(upload);
    case 'openSession':
      return openSession(upload);
    case 'send':
      return send(upload);
    case 'queryStatus':
      return queryStatus(upload, state);
    case 'restart':
      return restart(upload, state);
    case 'confirmCommit':
      return confirmCommit(upload, state);
  }
}

/**
 * Brings a blob into a repository. Throws RegistryError (an answer or the network), UploadError (limits, patience),
 * what the body rejects with, or the signal's reason. After an abort the session stays open until the registry is
 * closed.
 */
export async function run(upload: BlobUpload): Promise<BlobOutcome> {
  let state: State = { at: 'checkExists' };
  try {
    while (state.at !== 'done') state = await step(upload, state);
  } catch (error) {
    upload.signal.throwIfAborted();
    upload.abandon();
    throw error;
  }
  if (state.what !== 'uploaded') upload.abandon();
  return outcome(upload, state.what);
}

async function outcome(upload: BlobUpload, what: BlobOutcome['what']): Promise<BlobOutcome> {
  const identity = await upload.completed();
  const { bytesSent, waitedMs, sendingMs } = upload.metrics;
  upload.options.onProgress?.(identity.size);
  const bytesResent = Math.max(0, bytesSent - identity.size);
  return { what, identity, bytesSent, bytesResent, retries: upload.patience.retries, waitedMs, sendingMs };
}

/**
 * Asks once whether the registry has the blob, as soon as its digest is known. A blob that is still being made is
 * waited for until its first chunk is complete: if it ends before, its digest is known before a session was opened.
 */
async function checkExists(upload: BlobUpload): Promise<State> {
  if (upload.body.identity === undefined && !upload.isOpen) await firstChunk(upload);
  const { identity } = upload.body;
  if (identity !== undefined && !upload.asked) {
    upload.asked = true;
    const opens = opensWhileAsking(upload);
    const worthAsking = opens ? upload.options.worthAsking?.(identity.size) : undefined;
    // The HEAD goes first: its answer tells the scheme and the challenge.
    const asking = worthAsking === undefined ? ask(upload, identity) : undefined;
    const opening = opens ? openAhead(upload) : undefined;
    // Its failure counts only when the session is needed.
    opening?.catch(() => {});
    const exists = await (asking ?? askIfWorth(upload, identity, opening, worthAsking)).catch(
      async (error: unknown) => {
        await opening?.catch(() => {});
        throw error;
      },
    );
    if (exists) {
      void opening?.then(
        () => upload.abandon(),
        () => {},
      );
      return { at: 'done', what: 'exists' };
    }
    await opening;
  }
  return { at: upload.isOpen ? 'send' : 'openSession' };
}

function ask(upload: BlobUpload, identity: BlobIdentity): Promise<boolean> {
  const asking = upload.exists(identity);
  upload.options.onAsking?.(asking);
  return asking;
}

/** Asks for the blob when its session is open, unless what came in meanwhile makes that needless. */
async function askIfWorth(
  upload: BlobUpload,
  identity: BlobIdentity,
  opening: Promise<void> | undefined,
  worthAsking: (() => Promise<boolean>) | undefined,
): Promise<boolean> {
  await opening?.catch(() => {});
  return (await worthAsking?.()) === true && ask(upload, identity);
}

const opensWhileAsking = ({ options, isOpen, resumeTried }: BlobUpload): boolean =>
  options.openWhileAsking === true &&
  !isOpen &&
  options.mountFrom === undefined &&
  (options.resume === undefined || resumeTried);

/** Opens a session that may turn out not to be needed. */
async function openAhead(upload: BlobUpload): Promise<void> {
  const { label } = upload.options;
  const opened = await upload.target.open({ label, signal: upload.signal });
  if (opened !== 'mounted') upload.opened(opened);
}

async function firstChunk(upload: BlobUpload): Promise<void> {
  if (upload.monolithic) {
    await upload.completed();
    return;
  }
  const { ended } = await upload.reach(upload.host.firstChunk(upload.mostAtOnce) + 1);
  if (ended) await upload.completed();
}

/** Opens a session. A blob whose digest is known is mounted, once, where another repository is thought to have it. */
async function openSession(upload: BlobUpload): Promise<State> {
  if (await resumes(upload)) return { at: 'send' };
  const opened = await upload.target.open({ label: upload.options.label, signal: upload.signal }, mountOf(upload));
  if (opened === 'mounted') return { at: 'done', what: 'mounted' };
  upload.opened(opened);
  return { at: 'send' };
}

/** Whether the session of an earlier process goes on; if not, it is given up. */
async function resumes(upload: BlobUpload): Promise<boolean> {
  const { resume } = upload.options;
  const { identity } = upload.body;
  if (resume === undefined || upload.resumeTried) return false;
  upload.resumeTried = true;
  const session = upload.target.resumed(resume.location);
  if (session === undefined) return false;
  upload.opened(session);
  const answer = await upload
    .tried(() => session.status(upload.signal))
    .catch((error: unknown) => {
      upload.signal.throwIfAborted();
      if (error instanceof RegistryError) return error;
      throw error;
    });
  const size = identity?.size ?? Number.MAX_SAFE_INTEGER;
  const isKnown = !(answer instanceof RegistryError) && answer.error === undefined;
  const bytes = isKnown ? storedOf(answer, { start: 0, end: size }) : undefined;
  if (bytes === undefined || bytes === 0 || bytes > size || !(await has(upload, bytes))) {
    upload.abandon();
    return false;
  }
  session.sent = bytes;
  session.chunkSize = resume.chunkSize;
  upload.confirm(bytes);
  return true;
}

/**
 * Whether the blob has the first `bytes` bytes, waiting for one that is being made: its digest is compared at its end.
 */
async function has(upload: BlobUpload, bytes: number): Promise<boolean> {
  return (await upload.reach(bytes)).available >= bytes;
}

function mountOf(upload: BlobUpload): Parameters<BlobUpload['target']['open']>[1] {
  const { mountFrom, uploadAgain } = upload.options;
  const { identity } = upload.body;
  if (mountFrom === undefined || identity === undefined || upload.mountTried || uploadAgain === true) return undefined;
  upload.mountTried = true;
  return { digest: identity.digest, from: mountFrom };
}

/** Abandons the session and starts again with a HEAD, from byte 0 of this blob. Throws when too many were lost. */
async function restart(upload: BlobUpload, { error, counted }: Restarting): Promise<State> {
  const { limits, patience } = upload;
  upload.abandon();
  if (!counted) await upload.failed(error);
  if (!limits.sessionLost(upload.host.largestBody))
    throw upload.gaveUp(`${limits.lostSessions} lost sessions in a row`, error);
  // The tries of a session that was dead anyway count as one: it is the next one's first request that fails or not.
  patience.forgive(limits.lostSinceProgress);
  upload.asked = upload.options.uploadAgain === true;
  return { at: 'checkExists' };
}
