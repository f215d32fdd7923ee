/** T2, the last request: the closing PUT, empty, or with the last chunk, or with the whole blob. */
import type { BlobIdentity } from '../body.ts';
import { RegistryError } from '../error.ts';
import { looksLikeLimit, shrink, suspectLimit } from './smaller.ts';
import type { State } from './state.ts';
import type { Upload } from './upload.ts';
import { type Answer, judgeClose, type Piece } from './verdict.ts';

/** Bytes can be damaged on their way, or an offset misunderstood; a second time it is the blob, or the registry. */
const MOST_CORRUPT = 2;

/** Closes the upload with the bytes of `piece` in the body. */
export async function close(upload: Upload, piece: Piece, identity: BlobIdentity): Promise<State> {
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
function broken(upload: Upload, piece: Piece, error: RegistryError): State {
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
