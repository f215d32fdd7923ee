/** What every request of a push to one host shares, and the loop that repeats a request until it is answered. */

import { randomBytes } from 'node:crypto';
import { errorOf, isTransientStatus, RegistryError } from '../http/error.ts';
import type { RegistryResponse } from '../http/response.ts';
import type { HostCapabilities } from './capabilities.ts';
import { Patience } from './patience.ts';
import type { RegistryRequest } from './sender.ts';
import type { Backoff, BodyScheduler } from './throttle.ts';
import type { Transport } from './transport.ts';

export interface HostContext {
  readonly transport: Pick<Transport, 'origin' | 'send'>;
  readonly backoff: Backoff;
  readonly host: HostCapabilities;
  /** The order of the bodies of all uploads. */
  readonly bodies: BodyScheduler;
  /** Failed tries in a row of one request, without progress, before the push fails: `max-retries`. */
  readonly maxRetries: number;
  /**
   * How long the host may be away, or ask to be left alone, without progress, before the push fails: `max-wait`.
   * Milliseconds.
   */
  readonly maxWait: number;
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
  readonly remedy?: string | (() => string | undefined) | undefined;
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
  /** A request failed and will be tried again in `waitMs`. `attempt` counts failures in a row, from 1. */
  | {
      readonly type: 'retry';
      readonly host: string;
      readonly label: string;
      readonly reason: string;
      readonly attempt: number;
      readonly waitMs: number;
      /** Part of a wait that the log has (`waiting`). */
      readonly waiting?: boolean;
    }
  /** The host is away, or asks for fewer requests: it is waited for, `maxWaitMs` at most. Once, until `resumed`. */
  | {
      readonly type: 'waiting';
      readonly host: string;
      readonly reason: string;
      readonly limited: boolean;
      readonly maxWaitMs: number;
    }
  /** The host answers again. */
  | { readonly type: 'resumed'; readonly host: string; readonly waitedMs: number }
  /**
   * The largest request body (bytes) that this host was found to take, or announced. `by`: what showed it, its refusal
   * of larger ones, or that larger ones break or take too long. Once for each value that holds.
   */
  | {
      readonly type: 'limit';
      readonly host: string;
      readonly bytes: number;
      readonly announced: boolean;
      readonly by?: 'size' | 'time';
    }
  /** A value that must never be shown. */
  | { readonly type: 'secret'; readonly value: string }
  | { readonly type: 'warning'; readonly text: string }
  | { readonly type: 'debug'; readonly text: string };

// What to do about answers that do not say it themselves.

/**
 * About a failure at another port of the registry's own host: its Location or redirect has lost the port (nginx: `Host
 * $host`).
 */
export function lostPort(registry: URL, url: URL): string | undefined {
  if (url.hostname !== registry.hostname || url.port === registry.port) return undefined;
  return (
    `the registry at ${registry.host} names ${url.host} as the place to go on: the proxy in front of it must pass on the host ` +
    'with its port (nginx: proxy_set_header Host $http_host), or the registry needs its outer address (distribution: http.host)'
  );
}

/**
 * About a 405 to what begins or ends a push. distribution in read-only mode or as a pull-through cache adds the code
 * UNSUPPORTED.
 */
export function readOnly(host: string, method: string, url: URL): string | undefined {
  if (method !== 'POST' && !(method === 'PUT' && url.pathname.includes('/manifests/'))) return undefined;
  return `${host} takes no pushes: it is read-only for now, or a pull-through cache or mirror: push to the registry behind it`;
}

/** What to do about a host whose answers are none of a registry. */
export const notRegistry = (host: string): string =>
  `${host} does not answer as a container registry: check the host and port in the reference (ghcr.io, not github.com; ` +
  'registry.gitlab.com, not gitlab.com), and the path that a proxy in front of it passes on (/v2/)';

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

/** What to do about a registry that has no place for a repository. */
export const unknownOwner = (host: string, repository: string): string =>
  `${host} knows no ${repository}: create the user, organisation or project ${repository.split('/')[0]} there first, or check the name`;

/** Whether an answer is a page for people. */
export const isPage = ({ headers }: Pick<RegistryResponse, 'headers'>): boolean =>
  /^\s*(text\/html|application\/xhtml)/i.test(headers['content-type'] ?? '');

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
