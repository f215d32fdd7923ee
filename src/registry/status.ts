/** What a status code alone says about trying again. */

/**
 * 408, 425, 429, 500, 502, 503, 504 of RFC 9110, 8470 and 6585; 520-524 are Cloudflare's for "the origin did not answer as it should".
 * 501 and 505 are left out: they say that it never will.
 */
const TRANSIENT: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524]);

/** Whether the same request may get another answer later. */
export const isTransientStatus = (status: number): boolean => TRANSIENT.has(status);

/** Whether the registry asks to be left alone for a while: only these two have a Retry-After that concerns the whole host. */
export const isBusyStatus = (status: number): boolean => status === 429 || status === 503;
