/** T4: after a transient failure nobody knows what was stored, and to send it again may double it: ask, then go on there. */

import type { ByteRange } from '../../blob/blob.ts';
import { isBusyStatus, isTransientStatus, RegistryError } from '../http/error.ts';
import { type Answer, storedOf } from './classify.ts';
import { goOnAt } from './send.ts';
import type { QueryingStatus, State, Upload } from './upload.ts';

/** Gitea: a broken PATCH leaves 500 for ever. A second equal one on a session is no passing trouble any more. */
const MOST_INTERNAL_ERRORS = 2;

/**
 * A session that refuses every chunk before it has read it may lose the refusal with the connection, and then looks like a reset.
 * Random cuts hit one chunk twice now and then, and a new session costs all that was sent: so not two.
 */
const MOST_SETBACKS = 3;

/** A refused chunk is never read: more of it than kernels and proxies hold in their buffers was not refused, but cut. */
const MOST_UNREAD_BYTES = 8 * 2 ** 20;

/** Waits, asks how far the upload has come, and goes on there; T5 when the session is gone. */
export async function queryStatus(upload: Upload, { error }: QueryingStatus): Promise<State> {
  const { session } = upload;
  await upload.failed(error);
  if (isBroken(upload, error)) return { at: 'reopen', error, counted: true };
  if (await cameMeanwhile(upload)) return { at: 'done', what: 'exists' };
  const answer = await upload.tried(() => session.status(upload.signal));
  return answer instanceof RegistryError ? { at: 'ask', error: answer } : afterStatus(upload, answer, error);
}

/** Counts the trouble in; whether the session has had too much of it. */
function isBroken({ session, traffic }: Upload, { status, kind, method }: RegistryError): boolean {
  const refused = kind === 'reset' && traffic.taken <= MOST_UNREAD_BYTES;
  if (status === 500) session.internalErrors += 1;
  if (method === 'PATCH' && (status === 500 || refused)) session.setbacks += 1;
  return session.internalErrors >= MOST_INTERNAL_ERRORS || session.setbacks >= MOST_SETBACKS;
}

/** Another job may push the same layer: before a first chunk is sent again, one HEAD. */
async function cameMeanwhile(upload: Upload): Promise<boolean> {
  const { identity } = upload.body;
  return (
    upload.session.offset === 0 && identity !== undefined && upload.options.force !== true && upload.exists(identity)
  );
}

async function afterStatus(upload: Upload, answer: Answer, error: RegistryError): Promise<State> {
  const { session, host } = upload;
  if (answer.status >= 200 && answer.status < 300) {
    const bytes = storedOf(answer, { start: session.offset, end: session.sent });
    if (mayBeStale(upload, bytes, error)) return { at: 'reopen', error, counted: true };
    return goOnAt(upload, bytes, { error, refusedWithoutNeed: error.status === 416, counted: true });
  }
  const said = answer.error ?? error;
  if (isTransientStatus(answer.status)) return { at: 'ask', error: said };
  // serverless-registry answers 401 to a token that may only push. It checks each chunk's range, so sending is asking.
  if ((answer.status === 401 || answer.status === 403) && host.announcesChunks) return { at: 'send' };
  return { at: 'reopen', error: said, counted: true };
}

/**
 * ECR's Range stands still, so it does not tell whether a chunk behind the first was stored. To send it again would store it
 * twice and cost the whole blob at the close. After 429 and 503 it was not stored.
 */
function mayBeStale({ session, host }: Upload, bytes: number | undefined, { status = 0 }: RegistryError): boolean {
  return host.rangeIsStale && session.offset > 0 && (bytes ?? 0) <= session.offset && !isBusyStatus(status);
}

/** T6 and T7: the registry, or what stands in front of it, does not take the request in this form. */

/**
 * Two resets count as one place when they came within so many bytes of each other: what the kernels and a proxy hold in
 * their buffers makes the exact byte unknowable.
 */
const SAME_PLACE_BYTES = 2 ** 20;

/**
 * Whether a connection broke at one place for the second time, under a body whose size nobody has taken yet. Not where a blob
 * goes in one request whatever its size: a suspicion would change nothing there, and be had again and again.
 */
export function looksLikeLimit(upload: Upload, piece: ByteRange, error: RegistryError): boolean {
  if (error.kind !== 'reset' || upload.monolithic) return false;
  const { taken } = upload.traffic;
  const last = upload.lastReset;
  upload.lastReset = { start: piece.start, taken };
  const samePlace = last?.start === piece.start && Math.abs(last.taken - taken) <= SAME_PLACE_BYTES;
  return samePlace && upload.host.canShrink(piece.end - piece.start);
}

/** T6: half the size, for the whole push. A session has one chunk size, so this one is given up. Throws UploadError at the floor. */
export function shrink(upload: Upload, piece: ByteRange, error: RegistryError): State {
  upload.host.refused(piece.end - piece.start, error);
  upload.abandon();
  return { at: 'look' };
}

/** T6 without an answer: resets look like a limit. Only where a smaller chunk can be tried. */
export function suspectLimit(upload: Upload, piece: ByteRange): State {
  upload.host.suspect(piece.end - piece.start);
  upload.abandon();
  return { at: 'look' };
}

/** T7: no chunks here: the whole blob in one PUT, for the whole push. `plan` says whether that is allowed. */
export function goWhole(upload: Upload, error: RegistryError): State {
  upload.host.noChunks ??= error.message;
  upload.abandon();
  return { at: 'look' };
}
