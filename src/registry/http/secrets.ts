/**
 * The secrets of one registry: announced once each, so that they are masked wherever the log goes, and cut out of what
 * a server echoes.
 */

/** A shorter secret would be cut out of words that only look like it. */
const SHORTEST_TO_CUT = 4;

export class Secrets {
  readonly #known = new Set<string>();
  readonly #announce: (secret: string) => void;

  /** `announce` is called once for each secret, before it is used for the first time. */
  constructor(announce: (secret: string) => void) {
    this.#announce = announce;
  }

  /** Takes note of a secret; empty and undefined are none. */
  add(...values: readonly (string | undefined)[]): void {
    for (const value of values) {
      if (value === undefined || value === '' || this.#known.has(value)) continue;
      this.#known.add(value);
      this.#announce(value);
    }
  }

  /** A text with every known secret replaced by three stars. */
  mask(text: string): string {
    let masked = text;
    for (const secret of this.#known) {
      if (secret.length < SHORTEST_TO_CUT) continue;
      for (const form of formsOf(secret)) masked = masked.replaceAll(form, '***');
    }
    return masked;
  }
}

/** As it is, and as it stands in a query or in a form (an OAuth request), should a server repeat that. */
const formsOf = (secret: string): Set<string> =>
  new Set([secret, encodeURIComponent(secret), new URLSearchParams([['', secret]]).toString().slice(1)]);
