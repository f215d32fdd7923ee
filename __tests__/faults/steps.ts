/** The steps of the matrix: which request of the push is meant, and what has to go before so that it is sent at all. */

import { bytesOf, digestOfBytes } from '../registry/upload/client.ts';
import { gatewayError } from '../support/fault-proxy/faults.ts';
import type { FaultRule, SeenRequest } from '../support/fault-proxy/rules.ts';

/** Bytes of a chunk: twice the least that the client ever tries, so that a 413 leaves a smaller one. */
export const CHUNK = 128 * 1024;

/** The layer of every push: a first chunk, a middle one, and a last one that is smaller. */
export const LAYER_BYTES = 2 * CHUNK + 1000;

/** The layer's bytes and their digest. */
export const LAYER = bytesOf(LAYER_BYTES, 'matrix layer');
export const LAYER_DIGEST = digestOfBytes(LAYER);

/** Bytes of the image's config, which tells its PUT from others. */
export const CONFIG_BYTES = 4321;

export interface MatrixStep {
  readonly name: string;
  /** What the proxy calls it. */
  readonly step: FaultRule['step'];
  readonly where?: (request: SeenRequest) => boolean;
  readonly has?: readonly ('body' | 'session')[];
  /** The part of the push in the words of the client's errors. */
  readonly says: RegExp;
  /** A fault before it, without which the request is not sent. */
  readonly before?: FaultRule;
  /**
   * Pushes with a mount; with the session opened while the blob is asked for (`ahead`); with both blobs at once over connections
   * that are opened early (`together`).
   */
  readonly with?: 'mount' | 'ahead' | 'together';
  /** The step that it is like: what ends a push there ends it here. */
  readonly like?: string;
}

const patchAt =
  (start: number) =>
  ({ range }: SeenRequest): boolean =>
    range?.start === start;

const chunk = (name: string, start: number): MatrixStep => ({
  name,
  step: 'upload-patch',
  where: patchAt(start),
  has: ['body', 'session'],
  says: /PATCH/,
});

export const STEPS: readonly MatrixStep[] = [
  { name: 'token', step: 'token', says: /asking for a token/ },
  { name: 'token for several requests', step: 'token', says: /asking for a token/, with: 'together', like: 'token' },
  { name: 'HEAD blob', step: 'blob-head', says: /HEAD/ },
  {
    name: 'HEAD after its POST',
    step: 'blob-head',
    where: ({ path }) => path.endsWith(LAYER_DIGEST),
    says: /HEAD/,
    with: 'ahead',
    like: 'HEAD blob',
  },
  { name: 'mount POST', step: 'upload-mount', says: /mounting/, with: 'mount' },
  { name: 'POST', step: 'upload-post', says: /opening an upload/ },
  chunk('PATCH, first', 0),
  chunk('PATCH, middle', CHUNK),
  chunk('PATCH, last', 2 * CHUNK),
  {
    name: 'GET status',
    step: 'upload-get',
    has: ['session'],
    says: /state of an upload|PATCH|PUT/,
    before: { step: 'upload-patch', where: patchAt(CHUNK), fault: gatewayError(502) },
  },
  {
    name: 'PUT, closing',
    step: 'upload-put',
    where: ({ length }) => length < 2000 && length !== CONFIG_BYTES,
    has: ['session'],
    says: /closing an upload/,
  },
  {
    name: 'PUT, whole blob',
    step: 'upload-put',
    where: ({ length }) => length === CONFIG_BYTES || length === LAYER_BYTES,
    has: ['body', 'session'],
    says: /closing an upload|takes no chunks/,
  },
  { name: 'PUT manifest', step: 'manifest-put', has: ['body'], says: /putting a manifest/ },
];
