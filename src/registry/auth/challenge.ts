/**
 * `WWW-Authenticate`, read by the grammar of RFC 9110, 11.6.1 and 11.2, and tolerant of what registries really send.
 */

export interface Challenge {
  /** In lower case: `basic`, `bearer`, … */
  readonly scheme: string;
  /** Names in lower case; of a name that comes twice the first counts. */
  readonly parameters: ReadonlyMap<string, string>;
  /** The one unnamed value that some schemes (Negotiate) have instead of parameters. */
  readonly token68?: string;
}

/**
 * The challenges of all `WWW-Authenticate` headers of an answer, in their order. Never throws: what can't be read is
 * left out.
 */
export function parseChallenges(headers: readonly string[]): Challenge[] {
  return headers.flatMap((header) => new Reader(header).challenges());
}

/** RFC 9110, 5.6.2: the characters of a token. */
const TOKEN = /[!#$%&'*+\-.^_`|~0-9A-Za-z]+/y;
/** RFC 9110, 11.2. */
const TOKEN68 = /[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|$))/y;
const SPACE = /[ \t]*/y;
const SPACE_AND_COMMAS = /[ \t,]*/y;
/** Not in the grammar: an unquoted URL or list as a value, up to the next comma or space. */
const LOOSE_VALUE = /[^\s,"]+/y;

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  challenges(): Challenge[] {
    const found: Challenge[] = [];
    for (this.#take(SPACE_AND_COMMAS); this.#at < this.#text.length; this.#take(SPACE_AND_COMMAS)) {
      // A parameter without a scheme before it belongs to something that could not be read.
      if (this.#parameter() !== undefined) continue;
      const scheme = this.#take(TOKEN);
      if (scheme === '') this.#at++;
      else found.push(this.#challenge(scheme.toLowerCase()));
    }
    return found;
  }

  /** What follows a scheme: one token68, or parameters until something comes that is not one. */
  #challenge(scheme: string): Challenge {
    const parameters = new Map<string, string>();
    if (this.#take(SPACE) !== '') {
      const token68 = this.#take(TOKEN68);
      if (token68 !== '') return { scheme, parameters, token68 };
    }
    for (let parameter = this.#parameter(); parameter !== undefined; parameter = this.#parameter()) {
      const [name, value] = parameter;
      if (!parameters.has(name)) parameters.set(name, value);
    }
    return { scheme, parameters };
  }

  /** `name=value` after spaces and commas; undefined, and nothing taken, when the next thing is not a parameter. */
  #parameter(): [string, string] | undefined {
    const start = this.#at;
    this.#take(SPACE_AND_COMMAS);
    const name = this.#take(TOKEN);
    this.#take(SPACE);
    if (name === '' || this.#text[this.#at] !== '=') {
      this.#at = start;
      return undefined;
    }
    this.#at++;
    this.#take(SPACE);
    const value = this.#text[this.#at] === '"' ? this.#quoted() : this.#take(LOOSE_VALUE);
    return [name.toLowerCase(), value];
  }

  /** RFC 9110, 5.6.4. One that is never closed ends with the header. */
  #quoted(): string {
    let value = '';
    for (this.#at++; this.#at < this.#text.length && this.#text[this.#at] !== '"'; this.#at++) {
      if (this.#text[this.#at] === '\\' && this.#at + 1 < this.#text.length) this.#at++;
      value += this.#text[this.#at];
    }
    this.#at++;
    return value;
  }

  #take(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const taken = pattern.exec(this.#text)?.[0] ?? '';
    this.#at += taken.length;
    return taken;
  }
}

// Bearer scopes: `repository:team/app:pull,push`. https://distribution.github.io/distribution/spec/auth/scope/

/** Several lists of scopes as one without repetition: one entry a resource with all its actions, in a fixed order. */
export function mergeScopes(...lists: readonly (readonly string[])[]): string[] {
  const wanted = new Map<string, Set<string>>();
  for (const scope of lists.flat()) {
    const colon = scope.lastIndexOf(':');
    const resource = colon < 0 ? scope : scope.slice(0, colon);
    const actions = wanted.get(resource) ?? new Set<string>();
    for (const action of colon < 0 ? [] : scope.slice(colon + 1).split(',')) actions.add(action);
    wanted.set(resource, actions);
  }
  return [...wanted]
    .map(([resource, actions]) => [resource, [...actions].sort().join(',')].filter(Boolean).join(':'))
    .sort();
}

/** The scopes in a challenge's `scope` parameter: separated by spaces (RFC 6750, 3). */
export const scopesOf = (parameter: string | undefined): string[] =>
  (parameter ?? '').split(/\s+/).filter((scope) => scope !== '');
