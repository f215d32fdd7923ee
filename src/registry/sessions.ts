/** The uploads that are open at a registry, so that none is left behind. */
import type { Session } from './upload/session.ts';

/** The runner kills a cancelled job after seconds: no more than this for deleting what is left. */
const CLOSING_MS = 2_000;

export class OpenSessions {
  readonly #open = new Set<Session>();
  readonly #cancelling = new Set<Promise<void>>();

  add(session: Session): void {
    this.#open.add(session);
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
    const signal = AbortSignal.timeout(CLOSING_MS);
    const left = [...this.#open].map((session) => session.cancel(signal));
    this.#open.clear();
    const timeout = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => timeout.resolve(), { once: true });
    await Promise.race([Promise.all([...left, ...this.#cancelling]), timeout.promise]);
  }
}
