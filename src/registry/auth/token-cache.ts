/** Bearer tokens by their scopes: one fetch for all that want the same, and a new one before the old one ends. */
import { now as clock } from '../../clock.ts';
import { untilAborted } from '../abort.ts';
import type { Token } from './token.ts';

/** A token with less than this left is renewed before it is used: a request takes a while until it is looked at. */
const EARLY_MS = 60_000;

/** Of a token that lives for seconds only, a quarter: it must be used for most of its life. */
const EARLY_SHARE = 0.25;

interface Entry {
  readonly token: Promise<Token>;
  /** When it is to be renewed, in milliseconds of our clock; Infinity while it is on its way. */
  staleAt: number;
  /** Set when it is there. */
  value?: string;
}

export class TokenCache {
  readonly #entries = new Map<string, Entry>();
  readonly #now: () => number;

  /** `now`: milliseconds that only go forward. */
  constructor(now: () => number = clock) {
    this.#now = now;
  }

  /** The token for these scopes, fetched when there is none that is good for long enough. Rejects as `fetch` does, or with the signal's reason. */
  async get(scopes: string, signal: AbortSignal, fetch: () => Promise<Token>): Promise<string> {
    const known = this.#entries.get(scopes);
    const entry = known !== undefined && known.staleAt > this.#now() ? known : this.#start(scopes, fetch);
    return (await untilAborted(entry.token, signal)).value;
  }

  /** Drops the token that was in this header, if it is still the one in use. */
  forget(scopes: string, header: string): void {
    const value = this.#entries.get(scopes)?.value;
    if (value !== undefined && header === `Bearer ${value}`) this.#entries.delete(scopes);
  }

  /** A failed fetch is forgotten, so that the next request tries again. */
  #start(scopes: string, fetch: () => Promise<Token>): Entry {
    const asked = this.#now();
    const entry: Entry = { token: fetch(), staleAt: Number.POSITIVE_INFINITY };
    this.#entries.set(scopes, entry);
    entry.token.then(
      ({ value, lifetime }) => {
        entry.value = value;
        entry.staleAt = asked + lifetime - Math.min(EARLY_MS, lifetime * EARLY_SHARE);
      },
      () => {
        if (this.#entries.get(scopes) === entry) this.#entries.delete(scopes);
      },
    );
    return entry;
  }
}
