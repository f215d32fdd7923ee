/**
 * How long one task bears with failed requests: by time where the host is away or asks for it, by tries where it fails
 * itself.
 */
import { RegistryError, UploadError } from '../http/error.ts';
import { askedWait } from '../http/error-body.ts';
import type { Backoff, Trouble, WaitEvent } from './throttle.ts';

/**
 * A limit by 403 that does not say how long it holds is GitHub's secondary one: "wait for at least one minute", longer
 * each time (https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api).
 */
const SECONDARY_LIMIT_MS = 60_000;

/**
 * A 429 that does not say so may be over in a second: many count requests a second. A minute each time leaves a request
 * five tries in 10 min: of 96 requests (12 merges of 8) that are refused half of the time, three would fail.
 */
const FIRST_LIMIT_MS = 1_000;

/** Less than twofold: where each try has a chance of one half, the waits come to 2 s a request on average. */
const LIMIT_GROWTH = 1.5;

/** Limits that count a minute's requests are over by then. */
const LONGEST_LIMIT_MS = 60_000;

/** The tries of a request that the registry itself fails (500) are spread over this time. */
const SPREAD_OF_TRIES_MS = 30_000;

/** Not less between two of them, however many there are. */
const LEAST_DELAY_MS = 500;

/** A request failed and will be tried again in `waitMs`. `attempt` counts failures in a row, from 1. */
export interface RetryEvent {
  readonly type: 'retry';
  readonly host: string;
  readonly label: string;
  readonly reason: string;
  readonly attempt: number;
  readonly waitMs: number;
  /** Part of a wait that the log has (`waiting`). */
  readonly waiting?: boolean;
}

/** A host, and how much is borne with there. */
export interface PatientHost {
  readonly host: { readonly host: string };
  readonly backoff: Backoff;
  /** Failed tries in a row of one request, without progress, before the push fails: `max-retries`. */
  readonly maxRetries: number;
  /**
   * How long the host may be away, or ask to be left alone, without progress, before the push fails: `max-wait`.
   * Milliseconds.
   */
  readonly maxWait: number;
  readonly onEvent: (event: RetryEvent | WaitEvent) => void;
}

/** What is being done, for events and errors, and what ends it. */
export interface Task {
  readonly label: string;
  readonly signal: AbortSignal;
  /** What to do when it fails, where the error itself does not say. */
  readonly remedy?: string | (() => string | undefined) | undefined;
}

export class Patience {
  readonly #host: PatientHost;
  readonly #task: Task;
  /** Failures in a row that count as tries: since the last progress. */
  #tries = 0;
  /** Failures in a row of any kind. */
  #failures = 0;
  #limits = 0;
  /** When the first of them happened, in ms of the host's clock. */
  #since: number | undefined;
  /** Failures that were followed by another try, in all. */
  retries = 0;

  constructor(host: PatientHost, task: Task) {
    this.#host = host;
    this.#task = task;
  }

  /** Failures in a row. */
  get failures(): number {
    return this.#failures;
  }

  /** Something came through: what failed before counts no more. */
  progress(): void {
    this.#tries = 0;
    this.#failures = 0;
    this.#limits = 0;
    this.#since = undefined;
  }

  /** Tries over this number are forgotten: those of a session that was dead anyway say nothing of the next one. */
  forgive(tries: number): void {
    this.#tries = Math.min(this.#tries, tries);
  }

  /**
   * Counts a failure, reports it, and waits until the next try is due. Throws UploadError when `max-retries` or
   * `max-wait` is used up; rejects with the task's signal.
   */
  async failed(error: RegistryError): Promise<void> {
    const { backoff, onEvent, host } = this.#host;
    this.#task.signal.throwIfAborted();
    const trouble = backoff.troubleOf(error);
    this.#since ??= backoff.clock.now();
    this.#failures += 1;
    if (trouble === 'failed' || trouble === 'unknown') this.#tries += 1;
    const waitMs = Math.max(this.#planned(error, trouble), backoff.held);
    this.retries += 1;
    const waiting = backoff.waiting(error, trouble, host.host, this.#left);
    if (waiting !== undefined) onEvent(waiting);
    onEvent({
      type: 'retry',
      host: host.host,
      label: this.#task.label,
      reason: error.message,
      attempt: this.#failures,
      waitMs,
      ...(backoff.isWaiting ? { waiting: true } : {}),
    });
    await backoff.clock.sleep(waitMs, this.#task.signal);
  }

  /** Milliseconds of `max-wait` that are left. */
  get #left(): number {
    const { backoff, maxWait } = this.#host;
    return Math.max(0, maxWait - (backoff.clock.now() - (this.#since ?? backoff.clock.now())));
  }

  /** Milliseconds until the next try. Throws when there is none left. */
  #planned(error: RegistryError, trouble: Trouble): number {
    switch (trouble) {
      case 'away':
        return this.#whileAway(error);
      case 'limited':
        return this.#whileLimited(error);
      case 'failed':
        return this.#nextTry(error, (try_, tries) => this.#spread(try_, tries));
      case 'unknown':
        return this.#nextTry(error, (try_) => this.#host.backoff.delay(try_ - 1));
    }
  }

  #whileAway(error: RegistryError): number {
    // With a max-wait of next to nothing a broken connection still gets its tries.
    if (this.#left === 0 && this.#failures > this.#host.maxRetries) throw this.#tooLong(error);
    const delay = this.#host.backoff.delay(this.#failures - 1);
    return this.#left === 0 ? delay : Math.min(delay, this.#left);
  }

  #whileLimited(error: RegistryError): number {
    const { backoff } = this.#host;
    const asked = askedWait(error.headers);
    const left = this.#left;
    if (asked !== undefined && asked > left) throw this.#tooLong(error, `; it asks to wait ${seconds(asked)}`);
    if (left === 0) throw this.#tooLong(error);
    // One that says one second each time is asked less often each time.
    const ms = asked === undefined ? this.#unsaid(error) : Math.max(asked, backoff.delay(this.#limits));
    this.#limits += 1;
    backoff.hold(Math.min(ms, left));
    return Math.min(ms, left);
  }

  /** How long a limit is left alone that does not say how long it holds, ms. */
  #unsaid({ status }: RegistryError): number {
    const ms =
      status === 403
        ? SECONDARY_LIMIT_MS * 2 ** this.#limits
        : Math.min(FIRST_LIMIT_MS * LIMIT_GROWTH ** this.#limits, LONGEST_LIMIT_MS);
    return Math.round(ms * (1 + this.#host.backoff.clock.random() / 4));
  }

  #nextTry(error: RegistryError, delay: (try_: number, tries: number) => number): number {
    const { maxRetries } = this.#host;
    if (this.#tries > maxRetries) {
      const tries = this.#tries === 1 ? '1 failed try' : `${this.#tries} failed tries without progress`;
      throw gaveUp(this.#task, `${tries} (max-retries: ${maxRetries})`, error);
    }
    return delay(this.#tries, maxRetries);
  }

  /** Each pause twice as long as the one before it, all of them together about half a minute. */
  #spread(try_: number, tries: number): number {
    const share = 2 ** (try_ - 1) / (2 ** tries - 1);
    return Math.max(LEAST_DELAY_MS, this.#host.backoff.jittered((SPREAD_OF_TRIES_MS * share * 4) / 3));
  }

  #tooLong(error: RegistryError, why = ''): UploadError {
    const { maxWait, backoff } = this.#host;
    const waited = backoff.clock.now() - (this.#since ?? 0);
    return gaveUp(this.#task, `${seconds(waited)} without progress (max-wait: ${seconds(maxWait)}${why})`, error);
  }
}

/**
 * The error in place of another try: "layer x: gave up after 4 failed tries without progress (max-retries: 3): PATCH
 * …".
 */
export function gaveUp({ label, remedy: general }: Omit<Task, 'signal'>, after: string, error: Error): UploadError {
  const remedy = error instanceof RegistryError || error instanceof UploadError ? error.remedy : undefined;
  return new UploadError(`${label}: gave up after ${after}: ${error.message}`, {
    remedy: remedy ?? (typeof general === 'function' ? general() : general),
    cause: error,
  });
}

/** A duration (ms) for messages: `45 s`, `10 min`. */
const seconds = (ms: number): string => {
  const rounded = Math.round(ms / 1000);
  return rounded >= 120 && rounded % 60 === 0 ? `${rounded / 60} min` : `${rounded} s`;
};
