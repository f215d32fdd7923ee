/** Answers that say "slow down", in every form that registries have for it, and for how long. */
import type { RegistryCode } from './error-body.ts';

/** The part of an answer that says so. */
export interface LimitingAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly codes: readonly RegistryCode[];
  readonly body: string;
}

/**
 * GitHub's secondary rate limit is a 403 DENIED that only its message tells from a lack of permission
 * (https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api, refchecker#67, vcell#1888).
 */
const SAYS_LIMIT = /\b(secondary )?rate[- ]?limit(s|ed|ing)?\b|\btoo many requests\b|\babuse detection\b/i;

/** Whether the registry refuses a request for the number of requests, and will take it later. */
export function isRateLimit({ status, headers, codes, body }: LimitingAnswer): boolean {
  if (status === 429) return true;
  if (status < 400) return false;
  if (codes.some(({ code }) => code === 'TOOMANYREQUESTS')) return true;
  if (status !== 403) return false;
  return headers['retry-after'] !== undefined || isUsedUp(headers) || SAYS_LIMIT.test(body);
}

/** Whether the headers say that no request is left. Others than a refusal carry them too, with what is left. */
function isUsedUp(headers: Readonly<Record<string, string>>): boolean {
  const remaining = headers['x-ratelimit-remaining'] ?? headers['ratelimit-remaining'];
  if (remaining !== undefined && /^\s*0\b/.test(remaining)) return true;
  // draft-ietf-httpapi-ratelimit-headers: `limit=100, remaining=0, reset=50`, later `"default";r=0;t=50`.
  return /\b(?:remaining|r)=0\b/.test(headers.ratelimit ?? '');
}

/** Numbers over this are moments (seconds since 1970) and not durations. */
const LEAST_EPOCH_SECONDS = 1_000_000_000;

/**
 * How long the registry asks to be left alone, ms; undefined when it does not say. Retry-After (RFC 9110, 10.2.3:
 * seconds or a date), else the reset of its rate limit. Dates are compared with the answer's own Date header: our clock
 * may be wrong.
 */
export function askedWait(headers: Readonly<Record<string, string>> | undefined): number | undefined {
  if (headers === undefined) return undefined;
  const date = Date.parse(headers.date ?? '');
  const sent = Number.isNaN(date) ? Date.now() : date;
  const retry = waitIn(headers['retry-after'], sent);
  if (retry !== undefined || !isUsedUp(headers)) return retry;
  const inHeader = /\b(?:reset|t)=(\d+)/.exec(headers.ratelimit ?? '')?.[1];
  return waitIn(inHeader ?? headers['ratelimit-reset'] ?? headers['x-ratelimit-reset'], sent);
}

function waitIn(value: string | undefined, sent: number): number | undefined {
  const text = value?.trim() ?? '';
  if (text === '') return undefined;
  const number = Number(text);
  const ms = /^\d+(\.\d+)?$/.test(text)
    ? number >= LEAST_EPOCH_SECONDS && number < LEAST_EPOCH_SECONDS * 10
      ? number * 1000 - sent
      : number * 1000
    : Date.parse(text) - sent;
  return Number.isNaN(ms) ? undefined : Math.max(ms, 0);
}
