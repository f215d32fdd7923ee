/**
 * The cookies of one upload session: load balancers pin a session to the replica that has it. RFC 6265, the part that
 * this needs.
 */

/** More than any load balancer sets; an answer must not fill memory or make the next request too large. */
const MOST_COOKIES = 20;
const LONGEST_COOKIE = 4096;

interface Cookie {
  readonly value: string;
  readonly path: string;
  readonly secure: boolean;
}

/** Kept for one upload session; the transport shows it only to the registry's own origin. */
export class CookieJar {
  readonly #cookies = new Map<string, Cookie>();

  /** Takes the values of `Set-Cookie` of an answer to `url`. A cookie that is expired is removed. */
  store(url: URL, setCookies: readonly string[]): void {
    for (const line of setCookies) {
      const [pair = '', ...attributes] = line.split(';').map((part) => part.trim());
      const equals = pair.indexOf('=');
      if (equals <= 0 || line.length > LONGEST_COOKIE || /[\x00-\x1f\x7f-\uffff]/.test(pair)) continue;
      const named = new Map(attributes.map(attribute));
      const path = named.get('path')?.startsWith('/') ? named.get('path')! : defaultPath(url);
      const key = `${pair.slice(0, equals)} ${path}`;
      this.#cookies.delete(key);
      if (expired(named) || this.#cookies.size >= MOST_COOKIES) continue;
      this.#cookies.set(key, { value: pair, path, secure: named.has('secure') });
    }
  }

  /** The `Cookie` header for a request to `url`; undefined when there is none to send. */
  header(url: URL): string | undefined {
    const fitting = [...this.#cookies.values()].filter(
      ({ path, secure }) => pathMatches(url.pathname, path) && (!secure || url.protocol === 'https:'),
    );
    return fitting.length === 0 ? undefined : fitting.map(({ value }) => value).join('; ');
  }
}

const attribute = (text: string): [string, string] => {
  const equals = text.indexOf('=');
  return equals < 0
    ? [text.toLowerCase(), '']
    : [text.slice(0, equals).trim().toLowerCase(), text.slice(equals + 1).trim()];
};

/** RFC 6265, 5.2.1 and 5.2.2: Max-Age wins over Expires. */
function expired(attributes: ReadonlyMap<string, string>): boolean {
  const maxAge = attributes.get('max-age');
  if (maxAge !== undefined && /^-?\d+$/.test(maxAge)) return Number(maxAge) <= 0;
  return Date.parse(attributes.get('expires') ?? '') <= Date.now();
}

/** RFC 6265, 5.1.4. */
const defaultPath = (url: URL): string => url.pathname.slice(0, Math.max(url.pathname.lastIndexOf('/'), 1));

const pathMatches = (path: string, cookiePath: string): boolean =>
  path === cookiePath || path.startsWith(cookiePath.endsWith('/') ? cookiePath : `${cookiePath}/`);
