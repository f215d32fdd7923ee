/** What proves who we are to a registry, and how it is kept out of logs. */

/** At most one way to prove it is set: a password, an identity token or a ready bearer token. */
export interface Credentials {
  /** Where they came from, for messages: "the inputs username and password", "/home/me/.docker/config.json". */
  readonly source: string;
  readonly username?: string;
  readonly password?: string;
  /** An OAuth refresh token: exchanged for access tokens, never shown to the registry itself. */
  readonly identityToken?: string;
  /** A bearer token that is sent to the registry as it is. */
  readonly registryToken?: string;
}

/** Credentials that exist and can't be read: a broken file, a helper program that fails. The message names it. */
export class CredentialsError extends Error {
  override readonly name = 'CredentialsError';
  readonly remedy: string;

  constructor(message: string, remedy: string, cause?: unknown) {
    super(message, { cause });
    this.remedy = remedy;
  }
}

/**
 * The name that a password has when it is an identity token.
 * https://github.com/docker/docker-credential-helpers#development
 */
export const TOKEN_USERNAME = '<token>';

/** The value of an `Authorization: Basic` header (RFC 7617), without the scheme. */
export const basicString = (username: string, password: string): string =>
  Buffer.from(`${username}:${password}`, 'utf8').toString('base64');

/** Username and secret as every store keeps them; the username `<token>` marks an identity token. */
export const fromPair = (source: string, username: string, secret: string): Credentials =>
  username === TOKEN_USERNAME ? { source, identityToken: secret } : { source, username, password: secret };

/** A shorter secret would be cut out of text that only looks like it. */
const SHORTEST_TO_CUT = 4;

/**
 * The secrets of one registry: announced once each, so that they are masked wherever the log goes, and cut out of what
 * a server echoes.
 */
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
      for (const spelling of spellingsOf(secret)) masked = masked.replaceAll(spelling, '***');
    }
    return masked;
  }
}

/** As it is, and as it stands in a query or in the body of an OAuth request, should a server repeat that. */
const spellingsOf = (secret: string): Set<string> =>
  new Set([secret, encodeURIComponent(secret), new URLSearchParams([['', secret]]).toString().slice(1)]);
