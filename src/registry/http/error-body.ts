/** What the registry says: out of its JSON, or of the HTML page that a proxy put in its place. */

import { STATUS_CODES } from 'node:http';
import { oneLine } from '../../common/printable.ts';

/** One entry of `errors`. distribution-spec, section Error Codes. */
export interface RegistryCode {
  readonly code: string;
  readonly message: string;
  readonly detail?: unknown;
}

/**
 * The codes in an error document; empty for anything else. Also takes the looser forms that token servers and proxies
 * use.
 */
export function registryCodes(body: string): RegistryCode[] {
  const parsed = parseObject(body);
  if (parsed === undefined) return [];
  if (Array.isArray(parsed.errors)) return parsed.errors.flatMap((entry) => codeOf(entry) ?? []);
  return codeOf(parsed) ?? [];
}

function parseObject(body: string): Record<string, unknown> | undefined {
  if (!body.trimStart().startsWith('{')) return undefined;
  try {
    return JSON.parse(body) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

/**
 * `{code, message}` of a registry, `{error, error_description}` of an OAuth server (RFC 6749, 5.2), `{details}` of
 * Docker Hub.
 */
function codeOf(entry: unknown): RegistryCode[] | undefined {
  if (typeof entry === 'string') return [{ code: '', message: oneLine(entry) }];
  if (typeof entry !== 'object' || entry === null) return undefined;
  const fields = entry as Record<string, unknown>;
  const code = text(fields.code) || text(fields.error);
  const message = text(fields.message) || text(fields.error_description) || text(fields.details);
  if (code === '' && message === '') return undefined;
  return [{ code, message, ...(fields.detail === undefined ? {} : { detail: fields.detail }) }];
}

/** distribution-spec, section Error Codes, and distribution's own. */
const SPECIFIED_CODES: ReadonlySet<string> = new Set([
  'BLOB_UNKNOWN',
  'BLOB_UPLOAD_INVALID',
  'BLOB_UPLOAD_UNKNOWN',
  'DENIED',
  'DIGEST_INVALID',
  'MANIFEST_BLOB_UNKNOWN',
  'MANIFEST_INVALID',
  'MANIFEST_UNKNOWN',
  'MANIFEST_UNVERIFIED',
  'NAME_INVALID',
  'NAME_UNKNOWN',
  'RANGE_INVALID',
  'SIZE_INVALID',
  'TAG_INVALID',
  'TOOMANYREQUESTS',
  'UNAUTHORIZED',
  'UNSUPPORTED',
]);

/**
 * An error document with nothing in it but specified codes and digests: what may be shown of the answer of a host that
 * a registry named. Empty when there is no such code.
 */
export function withoutText(body: string): string {
  const errors = registryCodes(body)
    .filter(({ code }) => SPECIFIED_CODES.has(code))
    .map(({ code, message, detail }) => {
      const digests = `${message} ${JSON.stringify(detail ?? '')}`.match(/sha256:[0-9a-f]{64}(?![0-9a-f])/g) ?? [];
      return { code, message: digests.join(' ') };
    });
  return errors.length === 0 ? '' : JSON.stringify({ errors });
}

const text = (value: unknown): string =>
  typeof value === 'string' || typeof value === 'number' ? oneLine(String(value)) : '';

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'", nbsp: ' ' };

/**
 * The first line of a page that says something: its title, else its first heading, else its first text. Empty for no
 * text.
 */
export function firstLine(body: string): string {
  if (!/<[a-z!/]/i.test(body)) return oneLine(body.trim().split(/[\r\n]/, 1)[0] ?? '');
  const page = body.replace(/<(script|style)\b[\s\S]*?(<\/\1\s*>|$)/gi, ' ');
  const marked = /<title\b[^>]*>(\s*[^<\s][^<]*)/i.exec(page) ?? /<h[1-3]\b[^>]*>(\s*[^<\s][^<]*)/i.exec(page);
  const text =
    marked?.[1] ??
    page
      .replace(/<[^>]*(>|$)/g, '\n')
      .trim()
      .split('\n', 1)[0] ??
    '';
  return oneLine(text.replace(/&(#?\w+);/g, (entity, name: string) => ENTITIES[name] ?? entity));
}

/** "413 Request Entity Too Large: DENIED: requested access…": the status, then what the body adds to it. */
export function readableReason(status: number, codes: readonly RegistryCode[], body: string): string {
  const said = codes.length > 0 ? codes.map(readableCode).join('; ') : firstLine(body);
  const name = STATUS_CODES[status] ?? '';
  const head = name === '' ? `${status}` : `${status} ${name}`;
  const repeated = said === '' || head.includes(said) || said === `${status}`;
  if (repeated) return head;
  return said.startsWith(`${status} `) ? said : `${head}: ${said}`;
}

function readableCode({ code, message, detail }: RegistryCode): string {
  const text = [code, message].filter((part) => part !== '').join(': ');
  if (detail === undefined || detail === null) return text;
  const more = oneLine(typeof detail === 'string' ? detail : JSON.stringify(detail));
  return more === '' || more === '{}' || more === '[]' ? text : `${text} (${more})`;
}

// Answers that say "slow down", in every form that registries have for it, and for how long.

/** The part of an answer that says so. */
interface LimitingAnswer {
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
