/** The steps of the matrix: which request of the push is meant, and what has to go before so that it is sent at all. */

import { gatewayError } from '../support/fault-proxy/faults.ts';
import type { FaultRule, SeenRequest } from '../support/fault-proxy/rules.ts';

/** Bytes of a chunk: twice the least that the client ever tries, so that a 413 leaves a smaller one. */
export const CHUNK = 128 * 1024;

/** The layer of every push: a first chunk, a middle one, and a last one that is smaller. */
export const LAYER_BYTES = 2 * CHUNK + 1000;

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
  /** Pushes with tokens, or with a mount. */
  readonly with?: 'token' | 'mount';
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
  { name: 'token', step: 'token', says: /asking for a token/, with: 'token' },
  { name: 'HEAD blob', step: 'blob-head', says: /HEAD/ },
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
