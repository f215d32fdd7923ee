/** How far a blob that is being made has come, for all who wait for it. Structurally the identity and reach of registry/body.ts. */
import type { Digest } from '../image/oci.ts';

/** Digest and length (bytes) of a whole blob. */
export interface Identity {
  readonly digest: Digest;
  readonly size: number;
}

/** The bytes that exist, and whether there will be no more. */
export interface Reach {
  readonly available: number;
  readonly ended: boolean;
}

interface Waiter {
  readonly bytes: number;
  resolve(reach: Reach): void;
  reject(cause: unknown): void;
}

export class Growth {
  #available = 0;
  #identity: Identity | undefined;
  #failure: { readonly cause: unknown } | undefined;
  #waiters: Waiter[] = [];
  readonly #whole = Promise.withResolvers<Identity>();

  constructor() {
    // A failure that nobody asks for (the push ended for another reason) is not an unhandled rejection.
    this.#whole.promise.catch(() => undefined);
  }

  /** Set when the blob is complete. */
  get identity(): Identity | undefined {
    return this.#identity;
  }

  /** Whether it is complete or has failed. */
  get settled(): boolean {
    return this.#identity !== undefined || this.#failure !== undefined;
  }

  /** `available` bytes exist now. */
  grow(available: number): void {
    this.#available = available;
    this.#tell();
  }

  /** There will be no more. */
  end(identity: Identity): void {
    if (this.settled) return;
    this.#identity = identity;
    this.#whole.resolve(identity);
    this.#tell();
  }

  /** Rejects everybody who waits or will wait. The first failure counts. */
  fail(cause: unknown): void {
    if (this.settled) return;
    this.#failure = { cause };
    this.#whole.reject(cause);
    for (const waiter of this.#waiters.splice(0)) waiter.reject(cause);
  }

  /** Resolves as soon as `bytes` exist or the blob has ended; rejects when it failed. */
  reach(bytes: number): Promise<Reach> {
    if (this.#failure) return Promise.reject(this.#failure.cause);
    const now = { available: this.#available, ended: this.#identity !== undefined };
    if (now.ended || now.available >= bytes) return Promise.resolve(now);
    return new Promise((resolve, reject) => this.#waiters.push({ bytes, resolve, reject }));
  }

  /** Resolves at the blob's end; rejects when it failed. */
  whole(): Promise<Identity> {
    return this.#whole.promise;
  }

  #tell(): void {
    const now = { available: this.#available, ended: this.#identity !== undefined };
    const waiting = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiting) {
      if (now.ended || now.available >= waiter.bytes) waiter.resolve(now);
      else this.#waiters.push(waiter);
    }
  }
}
