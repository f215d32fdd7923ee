/** One repository of a registry: its blobs and manifests. distribution-spec v1.1, sections Pull and Push. */
import type { Descriptor, Digest } from '../image/oci.ts';
import { untilAborted } from './abort.ts';
import { type BlobState, fetchBlob, headBlob } from './blobs.ts';
import type { BlobBody } from './body.ts';
import type { HostContext, Place, Task } from './context.ts';
import { type ConfirmedManifest, type FetchedManifest, fetchManifest, headManifest, putManifest } from './manifests.ts';
import { openUpload } from './opening.ts';
import type { OpenSessions } from './sessions.ts';
import { run } from './upload/machine.ts';
import type { Session } from './upload/session.ts';
import { type BlobOutcome, Upload, type UploadOptions, type UploadTarget } from './upload/upload.ts';

export type { BlobState } from './blobs.ts';
export { BlobUnknownError, type ConfirmedManifest, type FetchedManifest } from './manifests.ts';
export type { BlobOutcome, UploadOptions } from './upload/upload.ts';

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
  uploadBlob(body: BlobBody, options: UploadOptions): Promise<BlobOutcome> {
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

  #target(body: BlobBody): UploadTarget {
    return {
      name: this.name,
      headBlob: (digest, signal) => this.headBlob(digest, signal),
      open: (task, mount) => this.#openFor(body, task, mount),
      cancel: (session) => this.#sessions.cancel(session),
      forget: (session) => this.#sessions.forget(session),
    };
  }

  async #openFor(body: BlobBody, task: Task, mount?: { digest: Digest; from: string }): Promise<Session | 'mounted'> {
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
