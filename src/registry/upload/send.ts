/** T2: one request with bytes, and where its answer leads. */
import type { BlobIdentity, ByteRange } from '../../blob/blob.ts';
import { RegistryError } from '../http/error.ts';
import { UploadError } from '../http/upload-error.ts';
import { type Answer, judgePatch } from './classify.ts';
import { commit } from './commit.ts';
import { goWhole, looksLikeLimit, shrink, suspectLimit } from './resume.ts';
import type { State, Upload } from './upload.ts';

/**
 * T7 by the status that the first chunk of a session gets: so many fresh sessions in a row must refuse it before it is believed that
 * there are no chunks here. A 404 may be a lost session, a 416 somebody's passing trouble; the others are about PATCH itself.
 */
const REFUSALS_THAT_PROVE: Readonly<Record<number, number>> = { 404: 3, 416: 2 };

/** A refusal of the right offset may come from an old Location; a second one does not. */
const MOST_REFUSALS = 2;

/** An offset that contradicts us may be a stale answer; a second one means that the session holds other bytes than ours. */
const MOST_CONTRADICTIONS = 2;

/** Sends what comes next. */
export async function send(upload: Upload): Promise<State> {
  const next = await plan(upload);
  switch (next.is) {
    case 'look':
      return { at: 'look' };
    case 'chunk':
      return sendChunk(upload, next.piece);
    case 'close':
      return commit(upload, next.piece, next.identity);
  }
}

async function sendChunk(upload: Upload, piece: ByteRange): Promise<State> {
  const { session, body, traffic, signal } = upload;
  const before = session.location;
  const answer = await upload.sent(piece, body.identity?.size, () => session.patch(body, piece, traffic, signal));
  if (answer instanceof RegistryError) return broken(upload, piece, answer);
  const verdict = judgePatch(answer, piece, upload.host.takesChunks);
  if (verdict.is === 'stored') return stored(upload, piece);
  const error =
    answer.error ?? upload.oddity('PATCH', `its Range is ${answer.headers.range}, ${piece.end} bytes were sent`);
  switch (verdict.is) {
    case 'stalled':
      return stalled(upload, piece, error);
    case 'corrected':
      return corrected(upload, piece, { bytes: verdict.bytes, answer, error, moved: session.location !== before });
    case 'doubtful':
      return stalledBefore(upload, piece, answer) ? stored(upload, piece) : { at: 'ask', error };
    case 'lost':
      return lost(upload, piece, error);
    case 'too-large':
      return shrink(upload, piece, error);
    case 'no-chunks':
      return refusedAtStart(upload, { error, counted: false });
    case 'final':
      throw error;
  }
}

function stored(upload: Upload, piece: ByteRange): State {
  upload.host.acceptedChunk(piece.end - piece.start);
  upload.refusalsAtStart = 0;
  upload.confirm(piece.end);
  return { at: 'send' };
}

/** No answer: T6 when it looks like a limit, else T4. */
function broken(upload: Upload, piece: ByteRange, error: RegistryError): State {
  return looksLikeLimit(upload, piece, error) ? suspectLimit(upload, piece) : { at: 'ask', error };
}

/** ECR: believe our own count once it is proven that this host's Range stands still; until then ask. */
function stalled(upload: Upload, piece: ByteRange, error: RegistryError): State {
  upload.host.stalled();
  if (upload.host.rangeIsStale) return stored(upload, piece);
  upload.session.stalledAt = piece.end;
  return { at: 'ask', error };
}

/** A chunk that got 201 without moving the Range, and is refused with 416 when it is sent again: it was stored the first time. */
function stalledBefore(upload: Upload, piece: ByteRange, answer: Answer): boolean {
  if (answer.status !== 416 || upload.session.stalledAt !== piece.end) return false;
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

/** A refusal that says where the upload stands is the answer to T4 without asking. */
async function corrected(upload: Upload, piece: ByteRange, correction: Correction): Promise<State> {
  const { bytes, answer, error, moved } = correction;
  if (stalledBefore(upload, piece, answer)) return stored(upload, piece);
  return goOnAt(upload, bytes, { error, refusedWithoutNeed: answer.status === 416 && !moved, counted: false });
}

/** What led to a question where the upload stands. */
export interface Doubt {
  readonly error: RegistryError;
  /** Whether a chunk was refused with 416, at the offset and Location that the registry now names. */
  readonly refusedWithoutNeed: boolean;
  /** Whether the failure was counted and waited for. */
  readonly counted: boolean;
}

/** The registry says that it holds so many bytes: goes on there when that can be. */
export async function goOnAt(upload: Upload, bytes: number | undefined, doubt: Doubt): Promise<State> {
  const { session } = upload;
  const { error, counted } = doubt;
  if (bytes === undefined || bytes < session.offset || bytes > session.sent) {
    session.contradictions += 1;
    if (session.contradictions >= MOST_CONTRADICTIONS) return { at: 'reopen', error, counted };
    return { at: 'ask', error };
  }
  if (bytes > session.offset) {
    upload.confirm(bytes);
    return { at: 'send' };
  }
  if (error.status === 416) {
    if (doubt.refusedWithoutNeed && mayTakeNone(upload)) return refusedAtStart(upload, doubt);
    session.refusals += 1;
    if (session.refusals >= MOST_REFUSALS) return { at: 'reopen', error, counted };
  }
  if (!counted) await upload.failed(error);
  return { at: 'send' };
}

/** The session is not known (any more), or does not take this chunk. */
function lost(upload: Upload, piece: ByteRange, error: RegistryError): State {
  // ECR refuses a small part with 400, also the last one, which it takes in the closing PUT.
  const { offset, chunkSize = 0 } = upload.session;
  if (error.status === 400 && offset > 0 && piece.end - piece.start < chunkSize) upload.host.lastChunkInPut = true;
  if (error.status === 404 && mayTakeNone(upload)) return refusedAtStart(upload, { error, counted: false });
  return { at: 'reopen', error, counted: false };
}

/** Whether a refused chunk may mean that there are no chunks here: it is a blob's first, and no chunk was taken before. */
const mayTakeNone = ({ host, session }: Upload): boolean => !host.takesChunks && session.offset === 0;

/**
 * No chunk was taken: T7 when that is proven, else another session is tried. A refusal that was already counted as a failed try
 * leaves one try less to prove it with.
 */
function refusedAtStart(upload: Upload, { error, counted }: Pick<Doubt, 'error' | 'counted'>): State {
  upload.refusalsAtStart += 1;
  const tries = upload.context.maxRetries + (counted ? 0 : 1);
  const proof = Math.min(REFUSALS_THAT_PROVE[error.status ?? 0] ?? 1, tries);
  return upload.refusalsAtStart >= proof ? goWhole(upload, error) : { at: 'reopen', error, counted };
}

/** T2 and T3: what is sent next. */

/**
 * R2 takes objects of 5 GiB in one copy, and serverless-registry closes an upload by such a copy
 * (https://developers.cloudflare.com/r2/platform/limits/).
 */
const LARGEST_ON_SERVERLESS = 5 * 2 ** 30;

export type Next =
  /** One HEAD may save what is left to send. */
  | { readonly is: 'look' }
  | { readonly is: 'chunk'; readonly piece: ByteRange }
  /** The closing PUT, with the bytes that go in its body (perhaps none). */
  | { readonly is: 'close'; readonly piece: ByteRange; readonly identity: BlobIdentity };

/** Waits for the bytes of the next request and says which one it is. Throws UploadError when the limits leave no way. */
export async function plan(upload: Upload): Promise<Next> {
  const { session, host, body } = upload;
  if (upload.monolithic && session.chunkSize === undefined) return wholeInOne(upload);
  const growing = body.identity === undefined;
  const size = session.chunkSize ?? (growing ? host.growingChunk : host.largestBody);
  // One byte more than the chunk: to know whether it is the last one.
  const { available, ended } = await upload.reach(session.offset + size + 1);
  warnOfSize(upload, body.identity?.size ?? available);
  if (ended) {
    const left = await ending(upload, size);
    if (left !== undefined) return left;
  }
  session.chunkSize ??= host.chunkSize(growing);
  return { is: 'chunk', piece: await chunk(upload, session.chunkSize) };
}

/** The blob's end is known: what there is to do but another chunk; undefined for a chunk. */
async function ending(upload: Upload, size: number): Promise<Next | undefined> {
  const { session, host, body } = upload;
  const { size: whole } = body.identity ?? (await upload.completed());
  const left = whole - session.offset;
  const fitsInOne = session.offset === 0 && session.chunkSize === undefined && left <= host.largestBody;
  const endsNow = left === 0 || fitsInOne || (host.lastChunkInPut && left <= size);
  if (!upload.looked && (endsNow || left > size)) return { is: 'look' };
  if (!endsNow) return undefined;
  // Chunks need no more than the length: a blob out of a store is still being verified while they go. What is closed is verified.
  return { is: 'close', piece: { start: session.offset, end: whole }, identity: await upload.completed() };
}

/** Chunks of a session are equal; only the blob's end makes one smaller. */
async function chunk(upload: Upload, size: number): Promise<ByteRange> {
  const start = upload.session.offset;
  const { available } = await upload.reach(start + size);
  return { start, end: Math.min(start + size, available) };
}

/** T7: the whole blob in one PUT, if nobody forbids a body of that size. */
async function wholeInOne(upload: Upload): Promise<Next> {
  const { host } = upload;
  const identity = await upload.completed();
  if (!upload.looked) return { is: 'look' };
  if (identity.size > host.knownLimit) {
    throw new UploadError(
      `${upload.options.label}: ${host.host} takes no chunks (${host.noChunks}), and one body may have ${host.knownLimit} bytes at most: the blob has ${identity.size}`,
      {
        remedy:
          'raise the limit (chunk-size, or that of the proxy in front of the registry), or use a registry that takes chunks',
      },
    );
  }
  return { is: 'close', piece: { start: 0, end: identity.size }, identity };
}

function warnOfSize(upload: Upload, bytes: number): void {
  const { host, onEvent } = upload.context;
  if (upload.warnedOfSize || bytes <= LARGEST_ON_SERVERLESS || !host.announcesChunks) return;
  upload.warnedOfSize = true;
  onEvent({
    type: 'warning',
    text: `${upload.options.label} is larger than 5 GiB, and ${host.host} looks like serverless-registry, whose stock version cannot close such an upload: make the layer smaller if this fails`,
  });
}
