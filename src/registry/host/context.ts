/** What every request of a push to one host shares, and the loop that repeats a request until it is answered. */

import { randomBytes } from 'node:crypto';
import { errorOf, isPage, isTransientStatus, notRegistry, RegistryError, unknownOwner } from '../http/error.ts';
import type { RegistryResponse } from '../http/response.ts';
import type { HostCapabilities, LimitEvent } from './capabilities.ts';
import { Patience, type PatientHost, type RetryEvent, type Task } from './patience.ts';
import type { RegistryRequest } from './sender.ts';
import type { BodyScheduler, WaitEvent } from './throttle.ts';
import type { Transport } from './transport.ts';

export interface HostContext extends PatientHost {
  readonly transport: Pick<Transport, 'origin' | 'send'>;
  readonly host: HostCapabilities;
  /** The order of the bodies of all uploads. */
  readonly bodies: BodyScheduler;
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

/** Answers that say nothing of a host's health: its limits, and what gateways answer in its absence. */
const isGood = (status: number): boolean => status < 500 && ![403, 408, 425, 429].includes(status);

/** Resolves to an answer, or to the error in its place that may pass; throws errors that no other try can change. */
export async function answerOrTrouble<T extends { readonly status: number }>(
  { backoff, host, onEvent }: HostContext,
  send: () => Promise<T>,
): Promise<T | RegistryError> {
  try {
    const answer = await send();
    const resumed = isGood(answer.status) ? backoff.resumed(host.host) : undefined;
    if (resumed !== undefined) onEvent(resumed);
    return answer;
  } catch (error) {
    if (error instanceof RegistryError && backoff.mayPass(error)) return error;
    throw error;
  }
}

/** Statuses that are never a limit: registries send TOOMANYREQUESTS (and GitHub its message) under any other. */
const NO_LIMITS: ReadonlySet<number> = new Set([401, 404, 405, 413, 416]);

/** The error of an answer that may be another one later; undefined for any other. The answer can still be read. */
export async function transientError(response: RegistryResponse, step: string): Promise<RegistryError | undefined> {
  const { status, method } = response;
  if (!isTransientStatus(status) && (status < 400 || NO_LIMITS.has(status))) return undefined;
  const error = await errorOf(response, { method, step });
  return error.temporary ? error : undefined;
}

/**
 * Sends a request that may be repeated as it is (HEAD, GET, opening POST, manifest PUT), until its answer is not a
 * transient one or the task's patience is used up. Throws RegistryError or UploadError.
 */
export async function retrying(
  context: HostContext,
  task: Task,
  step: string,
  send: () => Promise<RegistryResponse>,
): Promise<RegistryResponse> {
  const patience = new Patience(context, task);
  for (;;) {
    const answer = await answerOrTrouble(context, send);
    const error = answer instanceof RegistryError ? answer : await transientError(answer, step);
    if (error === undefined) return answer as RegistryResponse;
    await patience.failed(error);
  }
}

/**
 * A request about something in the repository that may be repeated, until its answer is not a transient one. Throws as
 * `retrying`.
 */
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

/**
 * A GET with what `read` makes of its answer. Sent again where the answer breaks off while it is read, as where none
 * came. Throws as `retrying`, and what `read` throws.
 */
export async function fetchAndRead<T>(
  place: Place,
  path: string | URL,
  options: Parameters<typeof ask>[3],
  read: (response: RegistryResponse) => Promise<T>,
): Promise<T> {
  const patience = new Patience(place.context, { label: `${place.name} ${path}`, signal: options.signal });
  for (;;) {
    const response = await ask(place, 'GET', path, options);
    try {
      return await read(response);
    } catch (error) {
      const isBroken = error instanceof RegistryError && error.temporary && error.status === undefined;
      if (!isBroken) throw error;
      await patience.failed(error);
    }
  }
}

/**
 * What the registry room reports while it works. Texts hold no secrets; only `secret` does, so that it can be masked.
 */
export type RegistryEvent =
  | RetryEvent
  | WaitEvent
  | LimitEvent
  /** A value that must never be shown. */
  | { readonly type: 'secret'; readonly value: string }
  | { readonly type: 'warning'; readonly text: string }
  | { readonly type: 'debug'; readonly text: string };

// What to do about answers that do not say it themselves.

/**
 * About a 404 without a code to the opening of an upload: is it no registry, or does it know no such owner (Gitea,
 * Forgejo)?
 */
export async function unknownPlace(place: Place, signal: AbortSignal): Promise<string> {
  const { transport, host } = place.context;
  const isRegistry = await transport
    .send({ method: 'GET', url: new URL('/v2/', transport.origin), scopes: place.scopes, signal })
    .then(async (response) => {
      await response.discard();
      const { status, headers } = response;
      const isVersioned = headers['docker-distribution-api-version'] !== undefined;
      return isVersioned || ((status === 200 || status === 401) && !isPage(response));
    })
    .catch(() => false);
  if (!isRegistry) return notRegistry(host.host);
  return unknownOwner(host.host, place.name);
}

/** The error of an answer that no registry would send. */
export function noRegistry(response: RegistryResponse, place: Place, step: string, reason: string): RegistryError {
  const { method, url, status } = response;
  const remedy = notRegistry(place.context.host.host);
  return new RegistryError({ kind: 'protocol', method, url, status, step, reason, remedy, temporary: false });
}

const trusted = new WeakMap<HostContext, Promise<boolean>>();

/** The host has sent a manifest that has the digest it names: it is a registry, and its HEAD is believed. */
export const noteRegistry = (context: HostContext): void => void trusted.set(context, Promise.resolve(true));

/**
 * Whether a HEAD that says 200 means anything: a page or a proxy may say it to everything, and a blob that "exists"
 * would not be sent. `head` asks for a digest that no blob can have; asked once a host.
 */
export function tellsAbsence(context: HostContext, head: (digest: string) => Promise<number>): Promise<boolean> {
  const known = trusted.get(context);
  if (known !== undefined) return known;
  const asked = head(`sha256:${randomBytes(32).toString('hex')}`).then((status) => status !== 200);
  trusted.set(context, asked);
  asked.catch(() => trusted.delete(context));
  return asked;
}
