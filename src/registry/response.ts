/** An answer of a registry, its body still on the way. Whoever gets one reads it or discards it, else its connection is lost. */
import type { AnswerBody } from './answer-body.ts';
import { RegistryError, type ResponseHeaders } from './error.ts';
import { brokenOff } from './network.ts';

/** Documents of registries are small: manifests are limited to 4 MiB by the specification. */
const LONGEST_TEXT_BYTES = 4 * 1024 * 1024;

/** Reading this much of an unwanted body is cheaper than another connection. */
const WORTH_READING_BYTES = 64 * 1024;

export interface ResponseInit {
  readonly method: string;
  readonly url: URL;
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: AnswerBody;
  readonly step?: string | undefined;
  /** The request's own: what they end is cancelled, not broken. */
  readonly signals: readonly AbortSignal[];
  /** Cuts known secrets out of a text. */
  readonly mask: (text: string) => string;
  /** What to do about a 401 or 403, as far as the transport knows. */
  readonly remedy?: string | undefined;
}

export class RegistryResponse {
  readonly method: string;
  /** Where the answer came from, after redirects: Locations are relative to it. */
  readonly url: URL;
  readonly status: number;
  /** Names in lower case, the first value of each. */
  readonly headers: ResponseHeaders;
  readonly remedy: string | undefined;
  readonly #init: ResponseInit;

  constructor(init: ResponseInit) {
    this.#init = init;
    this.method = init.method;
    this.url = init.url;
    this.status = init.status;
    this.remedy = init.remedy;
    this.headers = firstValues(init.headers);
  }

  /** Every value of a header that may come several times (`set-cookie`, `www-authenticate`, `warning`). */
  getAll(name: string): readonly string[] {
    const value = this.#init.headers[name.toLowerCase()];
    return value === undefined ? [] : typeof value === 'string' ? [value] : value;
  }

  /** The body, of which there may be `limit` bytes. Throws RegistryError: `protocol` when it is longer, network kinds when it breaks off. */
  async bytes(limit: number): Promise<Buffer> {
    const { body, signals } = this.#init;
    await body.until(limit);
    if (body.failure !== undefined) throw brokenOff(body.failure, this.#init, signals);
    if (body.length > limit) {
      body.letGo();
      throw this.#error(`the answer is longer than ${limit} bytes`);
    }
    return body.first(body.length);
  }

  /** The body as UTF-8. Throws as `bytes` does. */
  async text(limit = LONGEST_TEXT_BYTES): Promise<string> {
    return (await this.bytes(limit)).toString('utf8');
  }

  /** The first `limit` bytes of the body as text without known secrets: what came, also when it breaks off. Never rejects. */
  async excerpt(limit: number): Promise<string> {
    await this.discard();
    return this.#init.mask(this.#init.body.first(limit).toString('utf8'));
  }

  /** Lets the body go, and keeps the connection when that is cheap. Never rejects. */
  async discard(): Promise<void> {
    const { body } = this.#init;
    await body.until(WORTH_READING_BYTES);
    body.letGo();
  }

  #error(reason: string): RegistryError {
    const { method, url, status, step } = this.#init;
    return new RegistryError({ kind: 'protocol', method, url, status, step, reason, temporary: false });
  }
}

function firstValues(headers: ResponseInit['headers']): ResponseHeaders {
  const first: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    const one = typeof value === 'string' ? value : value?.[0];
    if (one !== undefined) first[name.toLowerCase()] = one;
  }
  return first;
}
