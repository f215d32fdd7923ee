/** One repository of a registry: its blobs and manifests. distribution-spec v1.1, sections Pull and Push. */

import type { ReadableBlob } from '../blob/blob.ts';
import { untilAborted } from '../common/async.ts';
import { type Descriptor, type Digest, digestOf } from '../oci/types.ts';
import { type HostContext, type Place, retrying, type Task } from './host/context.ts';
import { errorOf, RegistryError } from './http/error.ts';
import type { RegistryResponse } from './http/response.ts';
import { type ConfirmedManifest, type FetchedManifest, fetchManifest, headManifest, putManifest } from './manifests.ts';
import { run } from './upload/machine.ts';
import { openUpload } from './upload/open.ts';
import type { OpenSessions, Session } from './upload/session.ts';
import { type BlobOutcome, Upload, type UploadOptions, type UploadTarget } from './upload/upload.ts';

export class Repository {
  readonly name: string;
  readonly #place: Place;
  readonly #sessions: OpenSessions;
  /** Sessions that a refused mount opened: they wait for the upload of that blob. */
  readonly #kept = new Map<Digest, Session>();

  constructor(name: string, context: HostContext, sessions: OpenSessions) {
    this.name = name;
    this.#sessions = sessions;
    this.#place = {
      context,
      name,
      scopes: [`repository:${name}:pull,push`],
      url: (path) => new URL(`/v2/${name}/${path}`, context.transport.origin),
    };
  }

  /** Whether the registry has a blob, and how large it says it is (a mounted one on serverless-registry: wrongly). Throws RegistryError. */
  headBlob(digest: Digest, signal: AbortSignal): Promise<BlobState> {
    return headBlob(this.#place, digest, signal);
  }

  /** Tries to mount a blob from another repository of this registry. A refusal costs nothing: its session waits for `uploadBlob`. */
  async mountBlob(digest: Digest, from: string, signal: AbortSignal): Promise<'mounted' | 'refused'> {
    const opened = await this.#open({ label: digest, signal }, { digest, from });
    if (opened === 'mounted') return 'mounted';
    const earlier = this.#kept.get(digest);
    if (earlier !== undefined) this.#sessions.cancel(earlier);
    this.#kept.set(digest, opened);
    return 'refused';
  }

  /**
   * Brings a blob here: by a HEAD that finds it, a mount, or an upload in chunks that starts while the blob is still being made.
   * Throws RegistryError (an answer that ends it), UploadError (limits, tries used up), what the body rejects with, or the
   * signal's reason.
   */
  uploadBlob(body: ReadableBlob, options: UploadOptions): Promise<BlobOutcome> {
    return run(new Upload(this.#place.context, this.#target(body), body, options));
  }

  /** The descriptor of a manifest by tag or digest; undefined when there is none. Throws RegistryError. */
  headManifest(reference: string, signal: AbortSignal): Promise<Descriptor | undefined> {
    return headManifest(this.#place, reference, signal);
  }

  /** A manifest by tag or digest, its bytes verified; undefined when there is none. Throws RegistryError. */
  getManifest(reference: string, signal: AbortSignal): Promise<FetchedManifest | undefined> {
    return fetchManifest(this.#place, reference, signal);
  }

  /** A small blob, verified by its digest; undefined when there is none. Throws RegistryError. */
  getBlob(digest: Digest, options: { maxBytes: number; signal: AbortSignal }): Promise<Buffer | undefined> {
    return fetchBlob(this.#place, digest, options);
  }

  /**
   * Puts a manifest under a tag or its digest, and sees to it that the registry has these very bytes (T9).
   * Throws BlobUnknownError for blobs that the registry says it lacks, RegistryError for anything else.
   */
  putManifest(bytes: Buffer, mediaType: string, reference: string, signal: AbortSignal): Promise<ConfirmedManifest> {
    return putManifest(this.#place, { bytes, mediaType, reference, signal });
  }

  #target(body: ReadableBlob): UploadTarget {
    return {
      name: this.name,
      headBlob: (digest, signal) => this.headBlob(digest, signal),
      open: (task, mount) => this.#openFor(body, task, mount),
      cancel: (session) => this.#sessions.cancel(session),
      forget: (session) => this.#sessions.forget(session),
    };
  }

  async #openFor(
    body: ReadableBlob,
    task: Task,
    mount?: { digest: Digest; from: string },
  ): Promise<Session | 'mounted'> {
    const digest = body.identity?.digest;
    const kept = digest === undefined ? undefined : this.#kept.get(digest);
    if (digest === undefined || kept === undefined) return this.#open(task, mount);
    this.#kept.delete(digest);
    return kept;
  }

  #open(task: Task, mount?: { digest: Digest; from: string }): Promise<Session | 'mounted'> {
    task.signal.throwIfAborted();
    return untilAborted(this.#sessions.opened(openUpload(this.#place, task, mount)), task.signal);
  }
}

/** Asking for blobs and reading small ones. distribution-spec, sections "Checking if content exists" and "Pulling blobs". */

export type BlobState =
  | { readonly state: 'present'; readonly size?: number }
  | { readonly state: 'absent' }
  /** The registry does not say: push-only credentials (403), no HEAD (405). */
  | { readonly state: 'unknown' };

/** Answers 2xx to HEAD are 'present', 404 is 'absent', anything else but 401 'unknown'. Throws RegistryError. */
export async function headBlob(place: Place, digest: Digest, signal: AbortSignal): Promise<BlobState> {
  const step = 'looking for a blob';
  const response = await ask(place, 'HEAD', `blobs/${digest}`, { signal, step });
  await response.discard();
  if (response.status === 404) return { state: 'absent' };
  if (response.status === 401) throw await errorOf(response, { method: 'HEAD', step, remedy: response.remedy });
  if (response.status !== 200) return { state: 'unknown' };
  const size = sizeTold(response, digest);
  return size === undefined ? { state: 'present' } : { state: 'present', size };
}

/** serverless-registry describes a mounted blob as the link that it keeps in its place: other digest, other size. */
function sizeTold({ headers }: RegistryResponse, digest: Digest): number | undefined {
  const named = headers['docker-content-digest'];
  if (named !== undefined && named !== digest) return undefined;
  const size = headers['content-length'];
  return size !== undefined && /^\d{1,15}$/.test(size) ? Number(size) : undefined;
}

export interface FetchOptions {
  readonly maxBytes: number;
  readonly signal: AbortSignal;
}

/** The bytes of a blob that hash to its digest; undefined for 404. Throws RegistryError, also for other or more bytes. */
export async function fetchBlob(place: Place, digest: Digest, options: FetchOptions): Promise<Buffer | undefined> {
  const step = 'reading a blob';
  const response = await ask(place, 'GET', `blobs/${digest}`, { signal: options.signal, step });
  if (response.status === 404) {
    await response.discard();
    return undefined;
  }
  if (response.status !== 200) throw await errorOf(response, { method: 'GET', step, remedy: response.remedy });
  const bytes = await response.bytes(options.maxBytes);
  if (digestOf(bytes) !== digest) throw otherBytes(response, digest, bytes, step);
  return bytes;
}

/** The error for an answer whose bytes are not those of the digest. */
export function otherBytes(response: RegistryResponse, digest: string, bytes: Buffer, step: string): RegistryError {
  const reason = `${bytes.length} bytes with the digest ${digestOf(bytes)} came in place of ${digest}`;
  return new RegistryError({
    kind: 'protocol',
    method: response.method,
    url: response.url,
    reason,
    step,
    temporary: false,
  });
}

/** HEAD or GET of something in the repository, repeated while the answer is a transient one. */
export function ask(
  place: Place,
  method: 'GET' | 'HEAD',
  path: string,
  options: { readonly signal: AbortSignal; readonly step: string; readonly headers?: Readonly<Record<string, string>> },
): Promise<RegistryResponse> {
  const { signal, step, headers } = options;
  const { transport } = place.context;
  const task = { label: `${place.name} ${path}`, signal };
  return retrying(place.context, task, step, () =>
    transport.send({ method, url: place.url(path), headers, scopes: place.scopes, signal, step }),
  );
}
