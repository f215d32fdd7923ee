/**
 * After a failure in the middle of a chunk it is not known what was stored, and to send it again may double it: the
 * registry is asked, and the upload goes on there. Failures that come from the size of the request, or from its
 * duration, make the next ones smaller.
 */
import type { ByteRange } from '../../blob/blob.ts';
import { isTransientStatus, RegistryError } from '../http/error.ts';
import { type BlobUpload, type QueryingStatus, type State, wasCutOff } from './blob-upload.ts';
import { type Answer, storedOf } from './classify.ts';

/** Gitea: a broken PATCH leaves 500 for ever. A second equal one on a session is no passing trouble any more. */
const MOST_INTERNAL_ERRORS = 2;

/**
 * A session that refuses every chunk before it has read it may lose the refusal with the connection, and then looks
 * like a reset. Random cuts hit one chunk twice now and then, and a new session costs all that was sent: so not two.
 */
const MOST_SETBACKS = 3;

/**
 * A refused chunk is never read: more of it than kernels and proxies hold in their buffers was not refused, but cut.
 */
const MOST_UNREAD_BYTES = 8 * 2 ** 20;

/** Waits, asks how far the upload has come, and goes on there; with a new session when this one is gone. */
export async function queryStatus(upload: BlobUpload, { error, counted }: QueryingStatus): Promise<State> {
  const { session } = upload;
  if (counted !== true) await upload.failed(error);
  if (isBroken(upload, error)) return { at: 'restart', error, counted: true };
  if (await cameMeanwhile(upload)) return { at: 'done', what: 'exists' };
  const answer = await upload.tried(() => session.status(upload.signal));
  return answer instanceof RegistryError ? { at: 'queryStatus', error: answer } : afterStatus(upload, answer, error);
}

/** Counts the trouble in; whether the session has had too much of it. */
function isBroken({ session, metrics }: BlobUpload, error: RegistryError): boolean {
  const { status, kind, method } = error;
  const refused = kind === 'reset' && metrics.taken <= MOST_UNREAD_BYTES;
  if (status === 500) session.internalErrors += 1;
  if (method === 'PATCH' && (status === 500 || refused)) session.setbacks += 1;
  return session.internalErrors >= MOST_INTERNAL_ERRORS || session.setbacks >= MOST_SETBACKS;
}

/** Another job may push the same layer: before a first chunk is sent again, one HEAD. */
async function cameMeanwhile(upload: BlobUpload): Promise<boolean> {
  const { identity } = upload.body;
  return (
    upload.session.offset === 0 &&
    identity !== undefined &&
    upload.options.uploadAgain !== true &&
    upload.exists(identity)
  );
}

async function afterStatus(upload: BlobUpload, answer: Answer, error: RegistryError): Promise<State> {
  const { session, host } = upload;
  if (answer.status >= 200 && answer.status < 300) {
    const bytes = storedOf(answer, { start: session.offset, end: session.sent });
    if (mayBeStale(upload, bytes, error)) return { at: 'restart', error, counted: true };
    if (bytes !== undefined && bytes > 0 && error.method === 'PATCH') host.keepsSessions = true;
    return goOnAt(upload, bytes, { error, refusedWithoutNeed: error.status === 416, counted: true });
  }
  const said = answer.error ?? error;
  if (said.temporary || isTransientStatus(answer.status)) return { at: 'queryStatus', error: said };
  // serverless-registry answers 401 to a token that may only push. It checks each chunk's range, so sending is asking.
  if ((answer.status === 401 || answer.status === 403) && host.announcesChunks) return { at: 'send' };
  return { at: 'restart', error: said, counted: true };
}

/**
 * ECR's Range stands still, so it does not tell whether a chunk behind the first was stored. To send it again would
 * store it twice and cost the complete blob at the close. After 429 and 503 it was not stored.
 */
function mayBeStale({ session, host }: BlobUpload, bytes: number | undefined, error: RegistryError): boolean {
  const wasRefused = error.kind === 'limited' || error.status === 503;
  return host.rangeIsStale && session.offset > 0 && (bytes ?? 0) <= session.offset && !wasRefused;
}

/**
 * That there are no chunks here, by the status that the first chunk of a session gets: this number of fresh sessions in
 * a row must refuse it. A 404 may be a lost session, a 416 passing trouble; the others are about PATCH itself.
 */
const REFUSALS_THAT_PROVE: Readonly<Record<number, number>> = { 404: 3, 416: 2 };

/** A refusal of the right offset may come from an old Location; a second one does not. */
const MOST_REFUSALS = 2;

/**
 * An offset that contradicts us may be a stale answer; a second one means that the session holds other bytes than ours.
 */
const MOST_CONTRADICTIONS = 2;

/** What led to a question where the upload stands. */
interface Doubt {
  readonly error: RegistryError;
  /** Whether a chunk was refused with 416, at the offset and Location that the registry now names. */
  readonly refusedWithoutNeed: boolean;
  /** Whether the failure was counted and waited for. */
  readonly counted: boolean;
}

/** The registry says that it holds this number of bytes: goes on there when that can be. */
export async function goOnAt(upload: BlobUpload, bytes: number | undefined, doubt: Doubt): Promise<State> {
  const { session } = upload;
  const { error, counted } = doubt;
  if (bytes === undefined || bytes < session.offset || bytes > session.sent) {
    session.contradictions += 1;
    if (session.contradictions >= MOST_CONTRADICTIONS) return { at: 'restart', error, counted };
    return { at: 'queryStatus', error };
  }
  if (bytes > session.offset) {
    upload.confirm(bytes);
    return { at: 'send' };
  }
  if (error.status === 416) {
    if (doubt.refusedWithoutNeed && mayTakeNone(upload)) return refusedAtStart(upload, doubt);
    session.refusals += 1;
    if (session.refusals >= MOST_REFUSALS) return { at: 'restart', error, counted };
  }
  if (!counted) await upload.failed(error);
  return { at: 'send' };
}

/**
 * Whether a refused chunk may mean that there are no chunks here: it is a blob's first, and no chunk was taken before.
 */
export const mayTakeNone = ({ host, session }: BlobUpload): boolean => !host.takesChunks && session.offset === 0;

/**
 * No chunk was taken: one PUT from now on when that is proven, else another session is tried. A refusal that was
 * already counted as a failed try leaves one try less to prove it with.
 */
export function refusedAtStart(upload: BlobUpload, { error, counted }: Pick<Doubt, 'error' | 'counted'>): State {
  upload.refusalsAtStart += 1;
  const tries = upload.context.maxRetries + (counted ? 0 : 1);
  const proof = Math.min(REFUSALS_THAT_PROVE[error.status ?? 0] ?? 1, tries);
  return upload.refusalsAtStart >= proof ? goMonolithic(upload, error) : { at: 'restart', error, counted };
}

/**
 * Two resets count as one place when they came within this number of bytes of each other: what the kernels and a proxy
 * hold in their buffers makes the exact byte unknowable.
 */
const SAME_PLACE_BYTES = 2 ** 20;

/**
 * Whether a connection broke at one place for the second time, under a body larger than any that was taken yet: an
 * nginx or a middlebox that resets instead of 413. Not where a blob goes in one request whatever its size: a suspicion
 * would change nothing.
 */
export function looksLikeLimit(upload: BlobUpload, range: ByteRange, error: RegistryError): boolean {
  if (error.kind !== 'reset' || upload.monolithic) return false;
  const { taken } = upload.metrics;
  const last = upload.lastReset;
  upload.lastReset = { start: range.start, taken };
  const samePlace = last?.start === range.start && Math.abs(last.taken - taken) <= SAME_PLACE_BYTES;
  return samePlace && upload.host.canShrink(range.end - range.start);
}

/** What load balancers answer when a request took too long for them: AWS and nginx 504, Cloudflare 524, HAProxy 408. */
const TIME_STATUS: ReadonlySet<number> = new Set([408, 504, 524]);

/** What others answer when they end a request (Cloudflare: 520). It is also what they say of a registry that is away. */
const BREAK_STATUS: ReadonlySet<number> = new Set([502, 503, 520, 521, 522, 523, 525, 526, 527, 530]);

/** Sooner than this no request ends for its duration. */
const LEAST_LIMIT_MS = 1_000;

/** One break is bad luck. */
const BREAKS_THAT_SHOW = 2;

/**
 * Where all chunks of a session are equal, smaller ones cost all that it holds: more breaks in a row have to show it.
 */
const BREAKS_THAT_SHOW_IN_SESSION = 4;

/**
 * Notes that a request with a body broke or was ended by time, and makes the next ones smaller where that may help: a
 * time limit has answered, or it was the second one (in a row, where the session goes on after it). Whether the session
 * cannot go on with smaller chunks, where all must be equal.
 */
export function noteBreak(upload: BlobUpload, range: ByteRange, error: RegistryError): boolean {
  const { host, metrics, session } = upload;
  const bytes = range.end - range.start;
  if (wasCutOff(error)) return host.needsEqualChunks;
  const { status = 0, kind } = error;
  const isLong = metrics.lastMs >= LEAST_LIMIT_MS;
  const isTime = TIME_STATUS.has(status) && isLong;
  const isBreak = kind === 'reset' || kind === 'timeout';
  // A second one in a row is about this request: the registry has answered in between where the upload stands.
  const isEnded = BREAK_STATUS.has(status) && kind !== 'limited' && isLong;
  if (!isTime && !isBreak && !isEnded) return false;
  upload.breaks += 1;
  if (isBreak) host.connectionBroke();
  const needed = host.needsEqualChunks && session.offset > 0 ? BREAKS_THAT_SHOW_IN_SESSION : BREAKS_THAT_SHOW;
  if (upload.monolithic || (!isTime && upload.breaks < needed) || !host.tookTooLong(bytes)) return false;
  return host.needsEqualChunks && session.chunkSize !== undefined;
}

/**
 * The request was refused for its size: half of it, for the rest of the push. A session has one chunk size, so this one
 * is given up.
 */
export function shrink(upload: BlobUpload, range: ByteRange, error: RegistryError): State {
  upload.host.refused(range.end - range.start, error);
  upload.abandon();
  return { at: 'checkExists' };
}

/** Resets look like a size limit that no answer names: a smaller chunk is tried. */
export function suspectLimit(upload: BlobUpload, range: ByteRange): State {
  upload.host.suspect(range.end - range.start);
  upload.abandon();
  return { at: 'checkExists' };
}

/** No chunks here: the complete blob in one PUT, for the rest of the push. `plan` says whether that is allowed. */
function goMonolithic(upload: BlobUpload, error: RegistryError): State {
  upload.host.noChunks ??= error.message;
  upload.abandon();
  return { at: 'checkExists' };
}

/** There was no connection for the request: nothing of it is in doubt, and nothing is said of its body. */
export async function sendAgain(upload: BlobUpload, error: RegistryError): Promise<State> {
  // A registry that takes few connections may refuse one more for as long as those that are kept are there.
  upload.session.takesAnyConnection = true;
  await upload.failed(error);
  return { at: 'send' };
}
