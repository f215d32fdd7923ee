/** A blob that lies in a file of its own, whole and verified: a compressed layer that the cache gave back. */
import { stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { fileStream } from '../blocks.ts';
import type { Digest } from '../image/oci.ts';

/** A body (registry/body.ts) over a complete file whose bytes are known to have this digest. */
export async function fileBody(path: string, digest: Digest) {
  const { size } = await stat(path);
  const identity = { digest, size };
  return {
    identity,
    reach: async () => ({ available: size, ended: true }),
    whole: async () => identity,
    read: (start: number, end: number): Readable => fileStream(path, start, end),
  };
}
