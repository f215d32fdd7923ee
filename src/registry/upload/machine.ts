/**
 * The upload of one blob as a state machine; a file for each state.
 *
 *   look    T1  HEAD                 there: done      absent: open, or send where a session is open
 *   open    T1  POST                 mounted: done    202: send
 *   send    T2  PATCH, in the end PUT                 stored: send      closed: done
 *                 PATCH in doubt: ask                 PUT in doubt: settle
 *                 session gone: reopen                too large (T6), no chunks (T7): look, with smaller chunks or none
 *   ask     T4  wait, GET            offset known: send                 session gone: reopen
 *   settle  T8  HEAD, HEAD, ...      there: done      absent: send (an empty PUT, once), else reopen
 *   reopen  T5  DELETE               look
 *
 * What keeps it finite: every failed try is counted (budget.ts), every T6 halves the size, T7 happens once.
 */
import { confirmCommit } from './commit.ts';
import { queryStatus } from './resume.ts';
import { send } from './send.ts';
import type { BlobOutcome, Restarting, State, Upload } from './upload.ts';

/** Takes one step from a state that is not the last one. */
function step(upload: Upload, state: Exclude<State, { at: 'done' }>): Promise<State> {
  switch (state.at) {
    case 'look':
      return checkExists(upload);
    case 'open':
      return open(upload);
    case 'send':
      return send(upload);
    case 'ask':
      return queryStatus(upload, state);
    case 'reopen':
      return restart(upload, state);
    case 'settle':
      return confirmCommit(upload, state);
  }
}

/**
 * Brings a blob into a repository. Throws RegistryError (an answer or the network), UploadError (limits, budget), what the
 * body rejects with, or the signal's reason. After an abort the session stays open for whoever closes the registry.
 */
export async function run(upload: Upload): Promise<BlobOutcome> {
  let state: State = { at: 'look' };
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

async function outcome(upload: Upload, what: BlobOutcome['what']): Promise<BlobOutcome> {
  const identity = await upload.completed();
  const { bytesSent, waitedMs, sendingMs } = upload.traffic;
  upload.options.onProgress?.(identity.size);
  const bytesResent = Math.max(0, bytesSent - identity.size);
  return { what, identity, bytesSent, bytesResent, retries: upload.budget.retries, waitedMs, sendingMs };
}

/** T1, first half: whether the blob has to be sent at all. */

/**
 * Asks once whether the registry has the blob, as soon as its digest is known. A blob that is still being made is waited for
 * until its first chunk is complete: if it ends before, its digest is known before anything was opened.
 */
export async function checkExists(upload: Upload): Promise<State> {
  if (upload.body.identity === undefined && !upload.isOpen) await firstChunk(upload);
  const { identity } = upload.body;
  if (identity !== undefined && !upload.looked) {
    upload.looked = true;
    if (await upload.exists(identity)) return { at: 'done', what: 'exists' };
  }
  return { at: upload.isOpen ? 'send' : 'open' };
}

async function firstChunk(upload: Upload): Promise<void> {
  if (upload.monolithic) {
    await upload.completed();
    return;
  }
  const { ended } = await upload.reach(upload.host.growingChunk + 1);
  if (ended) await upload.completed();
}

/** T1, second half: a session for the blob, or the blob itself by a mount. */

/** Opens a session. A blob whose digest is known is mounted, once, where another repository is thought to have it. */
export async function open(upload: Upload): Promise<State> {
  const opened = await upload.target.open({ label: upload.options.label, signal: upload.signal }, mountOf(upload));
  if (opened === 'mounted') return { at: 'done', what: 'mounted' };
  upload.opened(opened);
  return { at: 'send' };
}

function mountOf(upload: Upload): Parameters<Upload['target']['open']>[1] {
  const { mountFrom, force } = upload.options;
  const { identity } = upload.body;
  if (mountFrom === undefined || identity === undefined || upload.mountTried || force === true) return undefined;
  upload.mountTried = true;
  return { digest: identity.digest, from: mountFrom };
}

/** T5: the session is lost; a new one, from byte 0 of this blob. */

/** Gives the session up and starts again with a HEAD. Throws when the budget is spent. */
export async function restart(upload: Upload, { error, counted }: Restarting): Promise<State> {
  upload.abandon();
  if (!counted) await upload.failed(error);
  if (!upload.budget.sessionLost()) throw upload.gaveUp(`${upload.budget.lostSessions} lost sessions in a row`, error);
  upload.looked = upload.options.force === true;
  return { at: 'look' };
}
