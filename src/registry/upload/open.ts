/**
 * Opening an upload session, or mounting the blob instead; and all sessions that are open, so that none is left behind.
 * distribution-spec, sections "Pushing blobs" and "Mounting a blob from another repository".
 */
import type { Digest } from '../../oci/types.ts';
import { answerOrTrouble, noRegistry, type Place, retrying, unknownPlace } from '../host/context.ts';
import { Patience, type Task } from '../host/patience.ts';
import type { RegistryRequest } from '../host/sender.ts';
import { errorOf, RegistryError } from '../http/error.ts';
import type { RegistryResponse } from '../http/response.ts';
import { CookieJar, resolveLocation, Session } from './session.ts';

interface Mount {
  readonly digest: Digest;
  /** Another repository of the same registry. */
  readonly from: string;
}

const STEP = 'opening an upload';

/**
 * A request that opens an upload is not cut off at once when the push is cancelled: without its answer what it opened
 * cannot be deleted. Less than `close` waits for.
 */
const GRACE_MS = 1_500;

/**
 * Opens an upload session; with `mount` the registry may take the blob from there instead. A refused mount is never an
 * error: its session is used, or one is opened without it. Throws RegistryError.
 */
export async function openUpload(place: Place, task: Task, mount?: Mount): Promise<Session | 'mounted'> {
  const cookies = new CookieJar();
  const mounting = mount === undefined ? undefined : await tryMount(place, task, mount, cookies);
  if (mounting?.status === 201) {
    await mounting.discard();
    return 'mounted';
  }
  const response = mounting ?? (await post(place, task, cookies));
  if (response.status !== 202) throw await refusal(place, task, response);
  return sessionOf(place, response, cookies);
}

/** The mount's answer if it is one of the two that the specification knows; else undefined, whatever it was. */
async function tryMount(
  place: Place,
  task: Task,
  mount: Mount,
  cookies: CookieJar,
): Promise<RegistryResponse | undefined> {
  const query = new URLSearchParams({ mount: mount.digest, from: mount.from });
  const step = 'mounting a blob';
  const mountOnce = () =>
    answerOrTrouble(place.context, () =>
      send(place, task, {
        url: place.url(`blobs/uploads/?${query}`),
        // One token for both, as Docker Hub wants it.
        scopes: [...place.scopes, `repository:${mount.from}:pull`],
        cookies,
        step,
      }),
    ).catch((error: unknown) => {
      // A token that includes the other repository may be refused.
      if (error instanceof RegistryError && (error.kind === 'auth' || error.kind === 'denied')) return error;
      throw error;
    });
  const patience = new Patience(place.context, task);
  let answer = await mountOnce();
  // A rate limit says nothing of the blob.
  while (!(answer instanceof RegistryError) && answer.status === 429) {
    await patience.failed(await errorOf(answer, { method: 'POST', step }));
    answer = await mountOnce();
  }
  if (answer instanceof RegistryError) return undefined;
  if (answer.status === 201 || (answer.status === 202 && answer.headers.location !== undefined)) return answer;
  await answer.discard();
  return undefined;
}

function post(place: Place, task: Task, cookies: CookieJar): Promise<RegistryResponse> {
  const { profile } = place.context.host;
  const request = { url: place.url('blobs/uploads/'), scopes: place.scopes, cookies, step: STEP };
  return retrying(place.context, { remedy: profile.openRemedy, ...task }, STEP, () =>
    profile.hangsUpOnUnknown === true
      ? send(place, task, request).catch(async (error: unknown) => {
          throw (await refusedByHangUp(place, task, error)) ?? error;
        })
      : send(place, task, request),
  );
}

/**
 * The error of a registry that hung up on this request and answers another one: it fails by itself, and is not away.
 */
async function refusedByHangUp(place: Place, { signal }: Task, error: unknown): Promise<RegistryError | undefined> {
  if (!(error instanceof RegistryError) || error.kind !== 'reset') return undefined;
  const { transport } = place.context;
  const url = new URL('/v2/', transport.origin);
  const other = await transport.send({ method: 'GET', url, signal, step: STEP }).catch(() => undefined);
  if (other === undefined || other.status >= 500) return undefined;
  await other.discard();
  const reason = 'the connection broke, and the registry answers other requests';
  return new RegistryError({
    kind: 'protocol',
    method: 'POST',
    url: place.url('blobs/uploads/'),
    reason,
    step: STEP,
    temporary: true,
    cause: error,
  });
}

/** A POST that outlives the task's signal for a while. */
async function send(
  place: Place,
  task: Task,
  request: Omit<RegistryRequest, 'method' | 'signal'>,
): Promise<RegistryResponse> {
  task.signal.throwIfAborted();
  const late = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    timer = setTimeout(() => late.abort(task.signal.reason), GRACE_MS);
  };
  task.signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await place.context.transport.send({ ...request, method: 'POST', signal: late.signal });
  } finally {
    clearTimeout(timer);
    task.signal.removeEventListener('abort', onAbort);
  }
}

async function sessionOf(place: Place, response: RegistryResponse, cookies: CookieJar): Promise<Session> {
  const location = resolveLocation(response.headers.location, response.url);
  place.context.host.announce(response.headers);
  await response.discard();
  if (location !== undefined) return new Session({ context: place.context, scopes: place.scopes, location, cookies });
  const reason = `opened an upload without saying where (Location: ${response.headers.location ?? 'absent'})`;
  throw new RegistryError({
    kind: 'protocol',
    method: 'POST',
    url: response.url,
    reason,
    step: STEP,
    temporary: false,
  });
}

async function refusal(place: Place, task: Task, response: RegistryResponse): Promise<RegistryError> {
  const { openRemedy } = place.context.host.profile;
  if (response.status >= 200 && response.status < 300) {
    const reason = `${response.status} and no upload session`;
    await response.discard();
    return noRegistry(response, place, STEP, reason);
  }
  const error = await errorOf(response, { method: 'POST', step: STEP, temporary: false });
  if (response.status !== 404 || error.remedy !== undefined) return error;
  if (openRemedy !== undefined) return error.advised(openRemedy);
  return error.codes.length > 0 ? error : error.advised(await unknownPlace(place, task.signal));
}

/** The session at a location that an earlier process noted; undefined for what is no URL. Nothing is sent. */
export function sessionAt(place: Place, noted: string): Session | undefined {
  const location = resolveLocation(noted, place.context.transport.origin);
  if (location === undefined) return undefined;
  return new Session({ context: place.context, scopes: place.scopes, location, cookies: new CookieJar() });
}

/** The runner kills a cancelled job after seconds: no more than this for deleting what is left. */
const CLOSING_MS = 2_000;

export class OpenSessions {
  readonly #opening = new Set<Promise<void>>();
  readonly #open = new Set<Session>();
  readonly #cancelling = new Set<Promise<void>>();

  /** Remembers the session that comes of this, also when it is not waited for any more. */
  async opened(opening: Promise<Session | 'mounted'>): Promise<Session | 'mounted'> {
    const remembered = opening.then((session) => void (session === 'mounted' || this.#open.add(session)));
    const done: Promise<void> = remembered.catch(() => {}).finally(() => this.#opening.delete(done));
    this.#opening.add(done);
    await remembered;
    return opening;
  }

  /** Remembers a session that was opened earlier. */
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
    if (this.#opening.size + this.#open.size + this.#cancelling.size === 0) return;
    const signal = AbortSignal.timeout(CLOSING_MS);
    const timeout = new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    await Promise.race([Promise.all(this.#opening), timeout]);
    const left = [...this.#open].map((session) => session.cancel(signal));
    this.#open.clear();
    await Promise.race([Promise.all([...left, ...this.#cancelling]), timeout]);
  }
}
