/** One repository of a registry: its blobs and manifests. distribution-spec v1.1, sections Pull and Push. */

import type { ReadableBlob } from '../blob/blob.ts';
import { untilAborted } from '../common/async.ts';
import { MAX_DOCUMENT_BYTES, readDocument } from '../oci/documents.ts';
import { type Descriptor, type Digest, MediaType } from '../oci/types.ts';
import { type BlobRange, type BlobState, type BlobStream, fetchBlob, headBlob, readBlob } from './blobs.ts';
import { fetchAndRead, type HostContext, type Place } from './host/context.ts';
import type { Task } from './host/patience.ts';
import { errorOf } from './http/error.ts';
import {
  type ConfirmedManifest,
  deleteManifest,
  type FetchedManifest,
  fetchManifest,
  headManifest,
  listTags,
  nextPage,
  putManifest,
} from './manifests.ts';
import { type BlobOutcome, BlobUpload, type UploadOptions, type UploadTarget } from './upload/blob-upload.ts';
import { type OpenSessions, openUpload, sessionAt } from './upload/open.ts';
import type { Session } from './upload/session.ts';
import { run } from './upload/upload.ts';

export class Repository {
  readonly name: string;
  /** The bearer scopes of its requests. */
  readonly scopes: readonly string[];
  readonly #place: Place;
  readonly #sessions: OpenSessions;
  /** Sessions that a refused mount or `openAhead` has opened: they wait for the upload of that blob. */
  readonly #kept = new Map<Digest, Promise<Session | 'mounted'>>();

  /** `access`: what its tokens ask for; token servers may refuse `push` to users who may only read. */
  constructor(name: string, context: HostContext, sessions: OpenSessions, access: 'pull' | 'pull,push' = 'pull,push') {
    this.name = name;
    this.scopes = [`repository:${name}:${access}`];
    this.#sessions = sessions;
    this.#place = {
      context,
      name,
      scopes: this.scopes,
      url: (path) => new URL(`/v2/${name}/${path}`, context.transport.origin),
    };
  }

  /**
   * Whether the registry has a blob, and how large it says it is (a mounted one on serverless-registry: wrongly).
   * Throws RegistryError.
   */
  headBlob(digest: Digest, signal: AbortSignal): Promise<BlobState> {
    return headBlob(this.#place, digest, signal);
  }

  /**
   * Tries to mount a blob from another repository of this registry. A refusal costs nothing: its session waits for
   * `uploadBlob`.
   */
  async mountBlob(digest: Digest, from: string, signal: AbortSignal): Promise<'mounted' | 'refused'> {
    const opened = await this.#open({ label: digest, signal }, { digest, from });
    if (opened === 'mounted') return 'mounted';
    this.closeAhead(digest);
    this.#kept.set(digest, Promise.resolve(opened));
    return 'refused';
  }

  /**
   * Opens the session of a blob that the registry lacks while its bytes are still looked for: `uploadBlob` finds it,
   * and `Registry.close` deletes what was not used. A failure is reported by `uploadBlob`.
   */
  openAhead(digest: Digest, task: Task): void {
    if (this.#kept.has(digest)) return;
    const opening = this.#open(task);
    opening.catch(() => {});
    this.#kept.set(digest, opening);
  }

  /** Deletes a session that was opened ahead and is not needed, in the background. */
  closeAhead(digest: Digest): void {
    const cancel = (session: Session | 'mounted') => void (session === 'mounted' || this.#sessions.cancel(session));
    this.#kept.get(digest)?.then(cancel, () => {});
    this.#kept.delete(digest);
  }

  /**
   * Brings a blob here: by a HEAD that finds it, a mount, or an upload in chunks that starts while the blob is still
   * being made. Throws RegistryError (an answer that ends it), UploadError (limits, tries used up), what the body
   * rejects with, or the signal's reason.
   */
  uploadBlob(body: ReadableBlob, options: UploadOptions): Promise<BlobOutcome> {
    return run(new BlobUpload(this.#place.context, this.#target(body), body, options));
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
   * Reads a range of a blob of any size, and goes on where a read breaks; undefined when there is none. The bytes are
   * not verified. Throws RegistryError; the stream fails with RegistryError or UploadError.
   */
  readBlob(digest: Digest, options: BlobRange & { signal: AbortSignal }): Promise<BlobStream | undefined> {
    return readBlob(this.#place, digest, options, options.signal);
  }

  /** What refers to a manifest here; undefined where the registry has no referrers API. Throws RegistryError. */
  referrers(subject: Digest, signal: AbortSignal): Promise<readonly Descriptor[] | undefined> {
    return listReferrers(this.#place, subject, signal);
  }

  /**
   * The repository's tags, page by page as the registry lists them; empty for an unknown repository. Throws
   * RegistryError.
   */
  tags(signal: AbortSignal): Promise<string[]> {
    return listTags(this.#place, signal);
  }

  /**
   * Deletes a tag, or a manifest by its digest with all its tags. 'unsupported': this registry deletes no tags (or
   * nothing). Throws RegistryError.
   */
  deleteManifest(reference: string, signal: AbortSignal): Promise<'deleted' | 'absent' | 'unsupported'> {
    return deleteManifest(this.#place, reference, signal);
  }

  /**
   * Puts a manifest under a tag or its digest, and sees to it that the registry has these very bytes.
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
      resumed: (location) => {
        const session = sessionAt(this.#place, location);
        if (session !== undefined) this.#sessions.add(session);
        return session;
      },
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

// What refers to a manifest: signatures, bills of materials. distribution-spec, "Listing Referrers".

/** Pages that a registry that links them in a circle is asked for. */
const MOST_PAGES = 1_000;

/**
 * The manifests that name `subject`; undefined where the registry has no referrers API: it answers 404, or something
 * that is no list of referrers. Throws RegistryError, and ImageError for a list with entries that can't be used.
 */
async function listReferrers(
  place: Place,
  subject: Digest,
  signal: AbortSignal,
): Promise<readonly Descriptor[] | undefined> {
  const step = 'listing referrers';
  const listed: Descriptor[] = [];
  let page: URL | undefined = place.url(`referrers/${subject}`);
  for (let pages = 0; page !== undefined && pages < MOST_PAGES; pages += 1) {
    const options = { signal, step, headers: { accept: MediaType.ociIndex } };
    const answer: { bytes: Buffer; next: URL | undefined } | undefined = await fetchAndRead(
      place,
      page,
      options,
      async (response) => {
        if (response.status === 401) throw await errorOf(response, { method: 'GET', step, remedy: response.remedy });
        if (response.status === 200 && isList(response.headers['content-type']))
          return { bytes: await response.bytes(MAX_DOCUMENT_BYTES), next: nextPage(response) };
        await response.discard();
        return undefined;
      },
    );
    if (!answer) return pages === 0 ? undefined : listed;
    const document = readDocument(answer.bytes, `the list of referrers of ${subject}`, MediaType.ociIndex);
    if (document.kind === 'index') listed.push(...document.index.manifests);
    page = answer.next;
  }
  return listed;
}

const isList = (contentType: string | undefined): boolean =>
  contentType?.split(';', 1)[0]?.trim() === MediaType.ociIndex;
