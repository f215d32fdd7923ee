/** What stands in front of a registry and will not let everything through. */
import { hangUp, page, refusal } from '../answer.ts';
import type { Exchange } from '../exchange.ts';
import type { Quirk } from '../quirk.ts';

/** The page that nginx (client_max_body_size) or an edge in front answers with when a body is too large. */
export const tooLarge = page(413, 'Request Entity Too Large', 'nginx/1.22.1', 'linger');

/** nginx with client_max_body_size: a longer Content-Length is answered at once, before the body, and the connection closed. */
export const limitsBodies = (bytes: number): Quirk => ({
  name: `bodies over ${bytes} bytes get an HTML 413 before they are read`,
  before: (exchange) => ((exchange.length ?? 0) > bytes ? tooLarge : undefined),
});

/** The same without a length: nginx counts, and 13 of 24 such bodies ended in a reset. */
export const resetsUnsizedBodies: Quirk = {
  name: 'a body without Content-Length is hung up on',
  before: (exchange) => (exchange.unsized && exchange.route.step !== 'token' ? hangUp : undefined),
};

/** Too many requests: every so-many-th one is refused. */
export function refusesEvery(nth: number, retryAfter: () => string): Quirk {
  let count = 0;
  return {
    name: `every request number ${nth} gets 429 with Retry-After`,
    before: () => {
      count += 1;
      if (count % nth !== 0) return undefined;
      return refusal(429, 'TOOMANYREQUESTS', 'too many requests', undefined, { 'Retry-After': retryAfter() });
    },
  };
}

const isChunk = (exchange: Exchange): boolean => exchange.route.step === 'upload-patch';

/** GHCR: a PATCH over 4 MiB is refused with a status that speaks of ranges. A single PUT has no limit. */
export const limitsPatches = (bytes: number): Quirk => ({
  name: `a PATCH over ${bytes} bytes gets 416 "exceeds"`,
  before: (exchange) => {
    if (!isChunk(exchange) || (exchange.length ?? 0) <= bytes) return undefined;
    const limit = `${(bytes / 1024 / 1024).toFixed(2)}MiB`;
    const message = `the request body is too large and exceeds the maximum permissible limit of ${limit}`;
    return refusal(416, 'REQUESTED_RANGE_NOT_SATISFIABLE', message);
  },
});
