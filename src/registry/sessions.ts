/** The uploads that are open at a registry, so that none is left behind. */
import type { Session } from './upload/session.ts';

/** The runner kills a cancelled job after seconds: no more than this for deleting what is left. */
const CLOSING_MS = 2_000;

export class OpenSessions {
  readonly #opening = new Set<Promise<void>>();
  readonly #open = new Set<Session>();
  readonly #cancelling = new Set<Promise<void>>();

  /** Remembers the session that comes of this, also when nobody waits for it any more. */
  async opened(opening: Promise<Session | 'mounted'>): Promise<Session | 'mounted'> {
    const remembered = opening.then((session) => void (session === 'mounted' || this.#open.add(session)));
    const done: Promise<void> = remembered.catch(() => {}).finally(() => this.#opening.delete(done));
    this.#opening.add(done);
    await remembered;
    return opening;
  }

  /** It came to its end by itself. */
  forget(session: Session): void {
    this.#open.delete(session);
  }

  /** Deletes an upload in the background. */
  cancel(session: Session): void {
    if (!this.#open.delete(session)) return;
    const done: Promise<void> = session.cancel().finally(() => this.#cancelling.delete(done));
    this.#cancelling.add(done);
  }

  /** Deletes all that are still open and waits for it, 2 s at most. Never rejects. */
  async close(): Promise<void> {
    if (this.#opening.size + this.#open.size + this.#cancelling.size === 0) return;
    const signal = AbortSignal.timeout(CLOSING_MS);
    const timeout = new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    await Promise.race([Promise.all(this.#opening), timeout]);
    const left = [...this.#open].map((session) => session.cancel(signal));
    this.#open.clear();
    await Promise.race([Promise.all([...left, ...this.#cancelling]), timeout]);
  }
}
