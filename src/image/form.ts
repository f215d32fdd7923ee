/** Telling a blob's form by its first bytes, never by its name or by who made it. */
import type { BlobForm } from './source.ts';

/** As many bytes as tell every form: one tar header. */
export const HEAD_BYTES = 512;

const MAGIC_OFFSET = 257;

/** The form of a blob from its first HEAD_BYTES (all there are, if fewer). `ustar` at 257 is POSIX.1-2017 pax, "ustar Header Block". */
export function blobForm(head: Buffer): BlobForm {
  if (head[0] === 0x1f && head[1] === 0x8b) return 'gzip';
  if (head.length >= 4 && head.readUInt32LE(0) === 0xfd2fb528) return 'zstd';
  if (head.toString('latin1', MAGIC_OFFSET, MAGIC_OFFSET + 5) === 'ustar') return 'tar';
  // A layer without a file is nothing but the end-of-archive mark.
  return head.length >= HEAD_BYTES && head.every((byte) => byte === 0) ? 'tar' : 'other';
}

/** Whether bytes look like a JSON object or list. */
export function looksLikeJson(head: Buffer): boolean {
  const first = head.find((byte) => byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09);
  return first === 0x7b || first === 0x5b;
}
