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
import { ask } from './ask.ts';
import { look } from './look.ts';
import { open } from './open.ts';
import { reopen } from './reopen.ts';
import { send } from './send.ts';
import { settle } from './settle.ts';
import type { State } from './state.ts';
import type { BlobOutcome, Upload } from './upload.ts';

/** Takes one step from a state that is not the last one. */
function step(upload: Upload, state: Exclude<State, { at: 'done' }>): Promise<State> {
  switch (state.at) {
    case 'look':
      return look(upload);
    case 'open':
      return open(upload);
    case 'send':
      return send(upload);
    case 'ask':
      return ask(upload, state);
    case 'reopen':
      return reopen(upload, state);
    case 'settle':
      return settle(upload, state);
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
  const identity = await upload.whole();
  const { bytesSent, waitedMs, sendingMs } = upload.traffic;
  upload.options.onProgress?.(identity.size);
  const bytesResent = Math.max(0, bytesSent - identity.size);
  return { what, identity, bytesSent, bytesResent, retries: upload.budget.retries, waitedMs, sendingMs };
}
