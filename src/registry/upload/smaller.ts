/** T6 and T7: the registry, or what stands in front of it, does not take the request in this form. */
import type { RegistryError } from '../error.ts';
import type { State } from './state.ts';
import type { Upload } from './upload.ts';
import type { Piece } from './verdict.ts';

/**
 * Two resets count as one place when they came within so many bytes of each other: what the kernels and a proxy hold in
 * their buffers makes the exact byte unknowable.
 */
const SAME_PLACE_BYTES = 2 ** 20;

/**
 * Whether a connection broke at one place for the second time, under a body whose size nobody has taken yet. Not where a blob
 * goes in one request whatever its size: a suspicion would change nothing there, and be had again and again.
 */
export function looksLikeLimit(upload: Upload, piece: Piece, error: RegistryError): boolean {
  if (error.kind !== 'reset' || upload.monolithic) return false;
  const { taken } = upload.traffic;
  const last = upload.lastReset;
  upload.lastReset = { start: piece.start, taken };
  const samePlace = last?.start === piece.start && Math.abs(last.taken - taken) <= SAME_PLACE_BYTES;
  return samePlace && upload.host.canShrink(piece.end - piece.start);
}

/** T6: half the size, for the whole push. A session has one chunk size, so this one is given up. Throws UploadError at the floor. */
export function shrink(upload: Upload, piece: Piece, error: RegistryError): State {
  upload.host.refused(piece.end - piece.start, error);
  upload.abandon();
  return { at: 'look' };
}

/** T6 without an answer: resets look like a limit. Only where a smaller chunk can be tried. */
export function suspectLimit(upload: Upload, piece: Piece): State {
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
