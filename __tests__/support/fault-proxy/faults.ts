/** What can go wrong with one request, as values. */
import { type Answer, page, refusal } from '../registry/answer.ts';
import type { FaultRule } from './rules.ts';
import type { LinkClock } from './shaping.ts';

export type Fault =
  /** Both connections are cut after so many bytes of the body went through. */
  | { readonly kind: 'cut'; readonly after: number }
  /** The target takes the request, its answer is dropped and the client's connection cut. */
  | { readonly kind: 'drop' }
  /** The connection is reset when the request's head has come; the target never sees it. */
  | { readonly kind: 'reset' }
  /** Nothing is ever answered: before the target has seen the request, or after it took it. */
  | { readonly kind: 'hang'; readonly when: 'before' | 'after' }
  /** The body goes through at so many bytes a second, the answer waits. */
  | {
      readonly kind: 'slow';
      readonly bytesPerSecond: number;
      readonly answerAfter: (clock: LinkClock) => Promise<unknown>;
    }
  /** An answer of the proxy's own: instead of the target's (`before`) or after the target took the request. */
  | { readonly kind: 'answer'; readonly answer: Answer; readonly when: 'before' | 'after' }
  /** 416 to a chunk that the target never saw, with or without the target's Location and Range. */
  | { readonly kind: 'range'; readonly tells: boolean }
  /** The target sees credentials that are none, and its own 401 goes back. */
  | { readonly kind: 'expire' }
  /** The first bytes of the target's answer, head included, then the connection is cut. */
  | { readonly kind: 'truncate'; readonly after: number };

const own = (answer: Answer, when: 'before' | 'after' = 'before'): Fault => ({ kind: 'answer', answer, when });

/** The connection is cut after so many bytes of the body. */
export const cutAfter = (bytes: number): Fault => ({ kind: 'cut', after: bytes });

/** The answer is lost though the target took the request. */
export const dropAnswer: Fault = { kind: 'drop' };

/** The connection is reset before the target sees the request. */
export const resetBefore: Fault = { kind: 'reset' };

/** Nothing comes back. */
export const hang = (when: 'before' | 'after' = 'before'): Fault => ({ kind: 'hang', when });

/** A slow link, or a slow server: the answer waits for so many ms, or for a promise. */
export const slow = (options: { bytesPerSecond?: number; answerAfter?: number | Promise<unknown> }): Fault => {
  const { bytesPerSecond = Number.POSITIVE_INFINITY, answerAfter = 0 } = options;
  return {
    kind: 'slow',
    bytesPerSecond,
    answerAfter: (clock) => (typeof answerAfter === 'number' ? clock.sleep(answerAfter) : answerAfter),
  };
};

/** The page of a proxy whose limit is smaller: early, the connection closed. */
export const tooLarge = (): Fault => own(page(413, 'Request Entity Too Large', 'nginx/1.22.1', 'linger'));

/** 416 that tells Location and Range, or does not. */
export const outOfRange = (tells: boolean): Fault => ({ kind: 'range', tells });

/** 429 with Retry-After in seconds or as a date. */
export const tooMany = (retryAfter: number | Date): Fault => {
  const value = typeof retryAfter === 'number' ? String(retryAfter) : retryAfter.toUTCString();
  return own(refusal(429, 'TOOMANYREQUESTS', 'too many requests', undefined, { 'Retry-After': value }));
};

/** A page of a gateway: any 5xx, 520-524 too. With `after` the target took the request before the gateway gave up. */
export const gatewayError = (status: number, when: 'before' | 'after' = 'before'): Fault =>
  own(page(status, status >= 520 ? 'Origin Error' : 'Gateway Error', 'cloudflare', 'linger'), when);

/** An error in the registry's own words. */
export const registryError = (status: number, code: string, message: string): Fault =>
  own(refusal(status, code, message));

/** Any answer at all. */
export const answerWith = (answer: Answer, when: 'before' | 'after' = 'before'): Fault => own(answer, when);

/** Credentials that have run out: the target's own 401. */
export const expireToken: Fault = { kind: 'expire' };

/** Only the beginning of the answer, head included. */
export const truncateAnswer = (bytes: number): Fault => ({ kind: 'truncate', after: bytes });

/** Something in front of a registry that takes none of our uploads; engines get through. */
export const refuseOurUploads: FaultRule = {
  step: ['upload-patch', 'upload-put'],
  times: Number.POSITIVE_INFINITY,
  where: ({ headers }) => headers['user-agent'] === 'chunked-push',
  fault: registryError(400, 'UNSUPPORTED', 'no uploads of this kind'),
};
