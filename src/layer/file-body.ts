/** A blob that lies in a file of its own, whole and verified: a compressed layer that the cache gave back. */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import type { Digest } from '../image/oci.ts';

/** Large reads: a request body of 95 MB is some ninety of them instead of fifteen hundred. Bytes. */
const READ_BYTES = 1024 * 1024;

/** A body (registry/body.ts) over a complete file whose bytes are known to have this digest. */
export async function fileBody(path: string, digest: Digest) {
  const { size } = await stat(path);
  const identity = { digest, size };
  return {
    identity,
    reach: async () => ({ available: size, ended: true }),
    whole: async () => identity,
    read: (start: number, end: number): Readable =>
      createReadStream(path, { start, end: end - 1, highWaterMark: READ_BYTES }),
  };
}
