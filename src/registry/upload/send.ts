/** One request with the next bytes, and where its answer leads. */
import type { BlobIdentity, ByteRange } from '../../blob/blob.ts';
import { RegistryError, UploadError } from '../http/error.ts';
import { type BlobUpload, type State, wasCutOff } from './blob-upload.ts';
import { type Answer, judgePatch } from './classify.ts';
import { commit } from './commit.ts';
import {
  goOnAt,
  looksLikeLimit,
  mayTakeNone,
  noteBreak,
  refusedAtStart,
  sendAgain,
  shrink,
  suspectLimit,
} from './resume.ts';

/** Sends what comes next. */
export async function send(upload: BlobUpload): Promise<State> {
  const next = await plan(upload);
  switch (next.is) {
    case 'check-exists':
      return { at: 'checkExists' };
    case 'chunk':
      return sendChunk(upload, next.range);
    case 'close':
      return commit(upload, next.range, next.identity);
  }
}

async function sendChunk(upload: BlobUpload, range: ByteRange): Promise<State> {
  const { session, body, metrics } = upload;
  const before = session.location;
  const send = (signal: AbortSignal): Promise<Answer> => session.patch(body, range, metrics, signal);
  const answer = await upload.sent(range, body.identity?.size, send);
  if (answer instanceof RegistryError) return broken(upload, range, answer);
  const verdict = judgePatch(answer, range, upload.host.takesChunks);
  if (verdict.is === 'stored') return stored(upload, range);
  const error =
    answer.error ?? upload.oddity('PATCH', `its Range is ${answer.headers.range}, ${range.end} bytes were sent`);
  switch (verdict.is) {
    case 'stalled':
      return stalled(upload, range, error);
    case 'corrected':
      return corrected(upload, range, { bytes: verdict.bytes, answer, error, moved: session.location !== before });
    case 'doubtful':
      return stalledBefore(upload, range, answer) ? stored(upload, range) : afterBreak(upload, range, error);
    case 'lost':
      return lost(upload, range, error);
    case 'too-large':
      return shrink(upload, range, error);
    case 'no-chunks':
      return refusedAtStart(upload, { error, counted: false });
    case 'final':
      throw error;
  }
}

function stored(upload: BlobUpload, range: ByteRange): State {
  const bytes = range.end - range.start;
  upload.host.measured(bytes, upload.metrics.lastMs);
  upload.host.acceptedChunk(bytes);
  // Where a break costs the session, chunks that pass between two of them do not help: only fewer breaks do.
  if (upload.host.keepsSessions) upload.breaks = 0;
  upload.refusalsAtStart = 0;
  upload.confirm(range.end);
  return { at: 'send' };
}

/** No answer: smaller chunks when it looks like a limit of size or time, and the question what was stored. */
async function broken(upload: BlobUpload, range: ByteRange, error: RegistryError): Promise<State> {
  if (error.unsent) return sendAgain(upload, error);
  return looksLikeLimit(upload, range, error) ? suspectLimit(upload, range) : afterBreak(upload, range, error);
}

function afterBreak(upload: BlobUpload, range: ByteRange, error: RegistryError): State {
  const counted = wasCutOff(error);
  if (noteBreak(upload, range, error)) return { at: 'restart', error, counted };
  return { at: 'queryStatus', error, counted };
}

/** ECR: believe our own count once it is proven that this host's Range stands still; until then ask. */
function stalled(upload: BlobUpload, range: ByteRange, error: RegistryError): State {
  upload.host.stalled();
  if (upload.host.rangeIsStale) return stored(upload, range);
  upload.session.stalledAt = range.end;
  return { at: 'queryStatus', error };
}

/**
 * A chunk that got 201 without moving the Range, and is refused with 416 when it is sent again: it was stored the first
 * time.
 */
function stalledBefore(upload: BlobUpload, range: ByteRange, answer: Answer): boolean {
  if (answer.status !== 416 || upload.session.stalledAt !== range.end) return false;
  upload.host.stalled();
  return true;
}

interface Correction {
  readonly bytes: number | undefined;
  readonly answer: Answer;
  readonly error: RegistryError;
  /** Whether the answer named another Location than the one that was used. */
  readonly moved: boolean;
}

/** A refusal that says where the upload stands is the answer to a status query without asking. */
async function corrected(upload: BlobUpload, range: ByteRange, correction: Correction): Promise<State> {
  const { bytes, answer, error, moved } = correction;
  if (stalledBefore(upload, range, answer)) return stored(upload, range);
  return goOnAt(upload, bytes, { error, refusedWithoutNeed: answer.status === 416 && !moved, counted: false });
}

/** The session is not known (any more), or does not take this chunk. */
function lost(upload: BlobUpload, range: ByteRange, error: RegistryError): State {
  // ECR refuses a small part with 400, also the last one, which it takes in the closing PUT.
  const { offset, chunkSize = 0 } = upload.session;
  if (error.status === 400 && offset > 0 && range.end - range.start < chunkSize) upload.host.lastChunkInPut = true;
  if (error.status === 404 && mayTakeNone(upload)) return refusedAtStart(upload, { error, counted: false });
  return { at: 'restart', error, counted: false };
}

// What is sent next, and in which size.

/**
 * R2 takes objects of 5 GiB in one copy, and serverless-registry closes an upload by such a copy
 * (https://developers.cloudflare.com/r2/platform/limits/).
 */
const LARGEST_ON_SERVERLESS = 5 * 2 ** 30;

type Next =
  /** One HEAD may save what is left to send. */
  | { readonly is: 'check-exists' }
  | { readonly is: 'chunk'; readonly range: ByteRange }
  /** The closing PUT, with the bytes that go in its body (perhaps none). */
  | { readonly is: 'close'; readonly range: ByteRange; readonly identity: BlobIdentity };

/**
 * Waits for the bytes of the next request and says which one it is. Throws UploadError when the limits leave no way.
 */
async function plan(upload: BlobUpload): Promise<Next> {
  const { session, host, body } = upload;
  if (upload.monolithic && session.chunkSize === undefined) return inOnePut(upload);
  const most = upload.mostAtOnce;
  const size = session.nextChunk ?? host.firstChunk(most);
  // One byte more than the chunk: to know whether it is the last one.
  const { available, ended } = await upload.reach(session.offset + size + 1);
  warnOfSize(upload, body.identity?.size ?? available);
  if (ended) {
    const left = await ending(upload, size);
    if (left !== undefined) return left;
  }
  return { is: 'chunk', range: await chunk(upload, session.startChunk(most)) };
}

/** The blob's end is known: what there is to do but another chunk; undefined for a chunk. */
async function ending(upload: BlobUpload, size: number): Promise<Next | undefined> {
  const { session, host, body } = upload;
  const { size: total } = body.identity ?? (await upload.completed());
  const left = total - session.offset;
  const fitsInOne = session.offset === 0 && session.chunkSize === undefined && left <= host.largestBody;
  const endsNow = left === 0 || fitsInOne || (host.lastChunkInPut && left <= size);
  if (!upload.asked && (endsNow || left > size)) return { is: 'check-exists' };
  if (!endsNow) return undefined;
  // Chunks need no more than the length: a blob out of a store is still being verified while they go. What is closed is
  // verified.
  return { is: 'close', range: { start: session.offset, end: total }, identity: await upload.completed() };
}

/** The next chunk; only the blob's end makes it smaller. */
async function chunk(upload: BlobUpload, size: number): Promise<ByteRange> {
  const start = upload.session.offset;
  const { available } = await upload.reach(start + size);
  return { start, end: Math.min(start + size, available) };
}

/** The complete blob in one PUT, where no limit forbids a body of that size. */
async function inOnePut(upload: BlobUpload): Promise<Next> {
  const { host } = upload;
  const identity = await upload.completed();
  if (!upload.asked) return { is: 'check-exists' };
  if (identity.size > host.knownLimit) {
    throw new UploadError(
      `${upload.options.label}: ${host.host} takes no chunks (${host.noChunks}), and one body may have ${host.knownLimit} bytes at most: the blob has ${identity.size}`,
      {
        remedy:
          'raise the limit (chunk-size, or that of the proxy in front of the registry), or use a registry that takes chunks',
      },
    );
  }
  return { is: 'close', range: { start: 0, end: identity.size }, identity };
}

function warnOfSize(upload: BlobUpload, bytes: number): void {
  const { host, onEvent } = upload.context;
  if (upload.warnedOfSize || bytes <= LARGEST_ON_SERVERLESS || !host.announcesChunks) return;
  upload.warnedOfSize = true;
  onEvent({
    type: 'warning',
    text: `${upload.options.label} is larger than 5 GiB, and ${host.host} looks like serverless-registry, whose stock version cannot close such an upload: make the layer smaller if this fails`,
  });
}
