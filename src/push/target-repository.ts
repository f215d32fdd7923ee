/** A repository with the tags that one image gets there. Fails alone: the others are finished. */
import { now } from '../common/async.ts';
import { formatReference, type Reference } from '../oci/reference.ts';
import type { Digest } from '../oci/types.ts';
import type { BlobState } from '../registry/blobs.ts';
import type { Repository } from '../registry/repository.ts';
import { SMALL_BLOB } from './slots.ts';

/** A repository or a tag that was not pushed. */
export interface DestinationFailure {
  /** `registry/repository`, with `:tag` where only that tag failed. */
  readonly destination: string;
  readonly error: unknown;
}

/**
 * How long a registry's word that it lacks a blob which is not small is not asked for again: another push may bring what
 * takes long to send. Milliseconds.
 */
const JUST_NOW_MS = 1000;

export class TargetRepository {
  /** `registry/repository`, as references write it. */
  readonly name: string;
  readonly repository: Repository;
  readonly references: readonly Reference[];
  /** Aborted when the push is cancelled or this repository has failed. */
  readonly signal: AbortSignal;
  readonly #ended = new AbortController();
  readonly #committed = new Map<Reference, Digest>();
  readonly #refused = new Map<Reference, unknown>();
  readonly #absent = new Map<Digest, number>();
  readonly #asked = new Map<Digest, Promise<BlobState>>();
  readonly #mountsTried = new Set<string>();
  #held: ReadonlySet<Digest> = new Set();
  #lowest: Promise<boolean> | undefined;
  #hasReceived = false;
  #failure: unknown;

  constructor(repository: Repository, references: readonly Reference[], signal: AbortSignal) {
    this.name = `${references[0]?.registry}/${repository.name}`;
    this.repository = repository;
    this.references = references;
    this.signal = AbortSignal.any([signal, this.#ended.signal]);
  }

  get isActive(): boolean {
    return this.#failure === undefined;
  }

  get failure(): unknown {
    return this.#failure;
  }

  /** Fails this repository; its requests under way are ended. The first reason counts. */
  fail(reason: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.#ended.abort(reason);
  }

  /** Whether this push has brought a blob here, by an upload or a mount. */
  get hasReceived(): boolean {
    return this.#hasReceived;
  }

  noteReceived(): void {
    this.#hasReceived = true;
  }

  /** Notes what this repository has: an image was read from here. It is neither asked for nor put again. */
  noteHeld(digests: ReadonlySet<Digest>): void {
    this.#held = digests;
  }

  /** Whether this repository is known to have a blob or manifest. */
  holds(digest: Digest): boolean {
    return this.#held.has(digest);
  }

  /** Notes that the registry has just said that it lacks a blob. */
  noteAbsent(digest: Digest): void {
    this.#absent.set(digest, now());
  }

  /** Whether the registry has said that it lacks a blob of `size` bytes, so that asking again is not worth a request. */
  lacks(digest: Digest, size: number): boolean {
    const said = this.#absent.get(digest);
    return said !== undefined && (size <= SMALL_BLOB || now() - said < JUST_NOW_MS);
  }

  /** Asks for a blob that the next step is likely to ask for, which then finds the answer. */
  askAhead(digest: Digest): void {
    if (this.#asked.has(digest)) return;
    const asking = this.repository.headBlob(digest, this.signal);
    asking.catch(() => {});
    this.#asked.set(digest, asking);
  }

  /** Whether the registry has a blob: as `askAhead` has asked, once, else asked now. Throws RegistryError. */
  headBlob(digest: Digest): Promise<BlobState> {
    const asked = this.#asked.get(digest);
    this.#asked.delete(digest);
    return asked ?? this.repository.headBlob(digest, this.signal);
  }

  /** The registry is being asked for the lowest layer of the image that goes here. */
  askingLowest(exists: Promise<boolean>): void {
    this.#lowest = exists;
    exists.catch(() => {});
  }

  /**
   * Whether the image's layers above the lowest one may be here: not where the registry says that it lacks the lowest,
   * since images share layers from the base up. Never rejects.
   */
  async mayHaveAbove(): Promise<boolean> {
    return (await this.#lowest?.catch(() => true)) ?? true;
  }

  /** Whether a mount of a blob from a repository was tried before. */
  tried(digest: Digest, from: string): boolean {
    return this.#mountsTried.has(`${digest} ${from}`);
  }

  noteTried(digest: Digest, from: string): void {
    this.#mountsTried.add(`${digest} ${from}`);
  }

  /** A blob is about to be sent: what was said of it before counts no more. */
  sending(digest: Digest): void {
    this.#absent.delete(digest);
  }

  /** Notes that the registry (or the engine's own push to it) has confirmed a tag. */
  confirm(reference: Reference, digest: Digest): void {
    this.#committed.set(reference, digest);
    this.#refused.delete(reference);
    if (this.unpushed.length === 0) this.#failure = undefined;
  }

  /** Notes that a tag was moved back, or never moved, because another one was refused. */
  withdraw(reference: Reference): void {
    this.#committed.delete(reference);
  }

  /** Notes that a tag was refused. A repository that refuses all of its tags has failed. */
  refuse(reference: Reference, error: unknown): void {
    this.#refused.set(reference, error);
    if (this.#refused.size === this.references.length) this.fail(error);
  }

  /** The tags that this repository does not have yet. */
  get unpushed(): readonly Reference[] {
    return this.references.filter((reference) => !this.#committed.has(reference));
  }

  /** What a tag points to now; undefined when it was not pushed. */
  digestOf(reference: Reference): Digest | undefined {
    return this.#committed.get(reference);
  }

  /** Why a tag was not pushed. */
  errorOf(reference: Reference): unknown {
    return this.#committed.has(reference) ? undefined : (this.#refused.get(reference) ?? this.#failure);
  }

  /** What failed: the complete repository, or some of its tags. */
  get failures(): DestinationFailure[] {
    if (this.#failure !== undefined) return [{ destination: this.name, error: this.#failure }];
    return [...this.#refused].map(([reference, error]) => ({ destination: formatReference(reference), error }));
  }
}
