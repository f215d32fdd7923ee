/** What the registry says to one request, as a value that quirks can look at and change before it is written. */

/** A range of a file, sent without being held in memory: the bytes [start, end). */
export interface FileRange {
  readonly file: string;
  readonly start: number;
  readonly end: number;
}

/**
 * What happens to the connection. `keep`: nothing. `linger`: the answer is written at once, whether or not the body has
 * come, and the connection is closed for writing while what still arrives is thrown away, as nginx does
 * (lingering_close). `reset`: no answer, the connection is torn down.
 */
export type Ending = 'keep' | 'linger' | 'reset';

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Buffer | FileRange;
  readonly ending?: Ending;
}

/** An answer without a body. */
export const answer = (status: number, headers: Readonly<Record<string, string>> = {}): Answer => ({ status, headers });

/** An error as distribution-spec section "Error Codes" wants it. */
export function refusal(
  status: number,
  code: string,
  message: string,
  detail?: unknown,
  headers: Readonly<Record<string, string>> = {},
): Answer {
  const body = JSON.stringify({ errors: [{ code, message, ...(detail === undefined ? {} : { detail }) }] });
  return { status, headers: { 'Content-Type': 'application/json; charset=utf-8', ...headers }, body };
}

/** An HTML page, as the proxies in front of registries answer. */
export const page = (status: number, title: string, server: string, ending: Ending = 'keep'): Answer => ({
  status,
  headers: { 'Content-Type': 'text/html', Server: server },
  body: `<html>\r\n<head><title>${status} ${title}</title></head>\r\n<body>\r\n<center><h1>${status} ${title}</h1></center>\r\n<hr><center>${server}</center>\r\n</body>\r\n</html>\r\n`,
  ending,
});

/** The connection goes away without a word. */
export const hangUp: Answer = { status: 0, headers: {}, ending: 'reset' };

/** The same answer with other or more headers; `undefined` takes one away. */
export function withHeaders(given: Answer, changes: Readonly<Record<string, string | undefined>>): Answer {
  const headers: Record<string, string> = { ...given.headers };
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined) delete headers[name];
    else headers[name] = value;
  }
  return { ...given, headers };
}
