/** Who we are to a registry. */

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

/** The name that a password has when it is an identity token. https://github.com/docker/docker-credential-helpers#development */
export const TOKEN_USERNAME = '<token>';

/** The value of an `Authorization: Basic` header (RFC 7617), without the scheme. */
export const basicString = (username: string, password: string): string =>
  Buffer.from(`${username}:${password}`, 'utf8').toString('base64');

/** Username and secret as every store keeps them; the username `<token>` marks an identity token. */
export const fromPair = (source: string, username: string, secret: string): Credentials =>
  username === TOKEN_USERNAME ? { source, identityToken: secret } : { source, username, password: secret };
