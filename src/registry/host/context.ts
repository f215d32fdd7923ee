/** What every request of a push to one host shares. */
import { errorOf, isTransientStatus, RegistryError } from '../http/error.ts';
import type { RegistryResponse } from '../http/response.ts';
import { UploadError } from '../http/upload-error.ts';
import type { Backoff, BackoffClock } from './backoff.ts';
import type { HostCapabilities } from './capabilities.ts';
import type { BodyScheduler } from './scheduler.ts';
import type { RegistryRequest, Transport } from './transport.ts';

export interface HostContext {
  readonly transport: Pick<Transport, 'origin' | 'send'>;
  readonly backoff: Backoff;
  readonly host: HostCapabilities;
  readonly sleep: BackoffClock['sleep'];
  /** The order of the bodies of all uploads. */
  readonly turns: BodyScheduler;
  /** Failed tries in a row of one request, without progress, before the push fails. */
  readonly maxRetries: number;
  readonly onEvent: (event: RegistryEvent) => void;
}

/** A repository as the functions of this room see it. */
export interface Place {
  readonly context: HostContext;
  readonly name: string;
  /** What its requests need to be allowed to do. */
  readonly scopes: readonly string[];
  /** The URL of `/v2/<name>/<path>`. */
  url(path: string): URL;
}

/** What is being done, for events and errors, and what ends it. */
export interface Task {
  readonly label: string;
  readonly signal: AbortSignal;
  /** What to do when it fails, where the error itself does not say. */
  readonly remedy?: string | undefined;
}

/** Tells of a failed try and waits as long as the host's back-off says. `failures` counts from 1. Resolves to the milliseconds waited. */
export async function pause(context: HostContext, task: Task, error: RegistryError, failures: number): Promise<number> {
  task.signal.throwIfAborted();
  const waitMs = context.backoff.planned(failures - 1, error);
  const { host } = context.host;
  context.onEvent({ type: 'retry', host, label: task.label, reason: error.message, attempt: failures, waitMs });
  await context.sleep(waitMs, task.signal);
  return waitMs;
}

/** The error in place of another try: "layer x: gave up after 4 failed tries without progress: PATCH …". */
export function gaveUp({ label, remedy: general }: Omit<Task, 'signal'>, after: string, error: Error): UploadError {
  const remedy = error instanceof RegistryError || error instanceof UploadError ? error.remedy : undefined;
  return new UploadError(`${label}: gave up after ${after}: ${error.message}`, {
    remedy: remedy ?? general,
    cause: error,
  });
}

/** A number of failures in a row, in words. */
export const failedTries = (failures: number): string =>
  failures === 1 ? '1 failed try' : `${failures} failed tries without progress`;

/** Resolves to an answer or to the temporary error in its place; throws errors that no other try can change. */
export async function answerOrTrouble<T>(send: () => Promise<T>): Promise<T | RegistryError> {
  try {
    return await send();
  } catch (error) {
    if (error instanceof RegistryError && error.temporary) return error;
    throw error;
  }
}

/**
 * Sends a request that may be repeated as it is (HEAD, GET, opening POST, manifest PUT), until its answer is not a transient
 * one or its tries are used up. Throws RegistryError or UploadError.
 */
export async function retrying(
  context: HostContext,
  task: Task,
  step: string,
  send: () => Promise<RegistryResponse>,
): Promise<RegistryResponse> {
  for (let failures = 1; ; failures += 1) {
    const answer = await answerOrTrouble(send);
    if (!(answer instanceof RegistryError) && !isTransientStatus(answer.status)) return answer;
    const error = answer instanceof RegistryError ? answer : await errorOf(answer, { method: answer.method, step });
    if (failures > context.maxRetries) throw gaveUp(task, failedTries(failures), error);
    await pause(context, task, error, failures);
  }
}

/** A request about something in the repository that may be repeated, until its answer is not a transient one. Throws as `retrying`. */
export function ask(
  place: Place,
  method: 'GET' | 'HEAD' | 'DELETE',
  path: string | URL,
  options: Pick<RegistryRequest, 'signal' | 'headers' | 'timeouts'> & { readonly step: string },
): Promise<RegistryResponse> {
  const { transport } = place.context;
  const task = { label: `${place.name} ${path}`, signal: options.signal };
  const url = typeof path === 'string' ? place.url(path) : path;
  return retrying(place.context, task, options.step, () =>
    transport.send({ ...options, method, url, scopes: place.scopes }),
  );
}

/** What the registry room tells while it works. Texts hold no secrets; only `secret` does, so that it can be masked. */

export type RegistryEvent =
  /** A request failed and will be tried again in `waitMs`. `attempt` counts failures in a row, from 1. */
  | {
      readonly type: 'retry';
      readonly host: string;
      readonly label: string;
      readonly reason: string;
      readonly attempt: number;
      readonly waitMs: number;
    }
  /** The largest request body (bytes) that this host was found to take, or announced. Once for each value that holds. */
  | { readonly type: 'limit'; readonly host: string; readonly bytes: number; readonly announced: boolean }
  /** A value that must never be shown. */
  | { readonly type: 'secret'; readonly value: string }
  | { readonly type: 'warning'; readonly text: string }
  | { readonly type: 'debug'; readonly text: string };
