/** Documents of registries (manifests, small blobs): each is asked for once in a push, whichever step needs it. */

import { MAX_DOCUMENT_BYTES } from '../oci/documents.ts';
import type { Descriptor, Digest } from '../oci/types.ts';
import type { FetchedManifest } from '../registry/manifests.ts';
import type { Repository } from '../registry/repository.ts';

export class RegistryDocuments {
  readonly #manifests = new Map<string, Promise<FetchedManifest | undefined>>();
  readonly #descriptors = new Map<string, Promise<Descriptor | undefined>>();
  readonly #blobs = new Map<string, Promise<Buffer | undefined>>();
  readonly #scopes = new Map<Repository, number>();

  /** A manifest by tag or digest, verified; undefined when there is none. Throws RegistryError or the signal's reason. */
  manifest(repository: Repository, reference: string, signal: AbortSignal): Promise<FetchedManifest | undefined> {
    return once(this.#manifests, this.#key(repository, reference), () => repository.getManifest(reference, signal));
  }

  /**
   * What a tag or digest names, by HEAD unless the manifest itself was asked for; undefined when there is nothing.
   * Throws RegistryError or the signal's reason.
   */
  async descriptor(repository: Repository, reference: string, signal: AbortSignal): Promise<Descriptor | undefined> {
    const key = this.#key(repository, reference);
    const manifest = this.#manifests.get(key);
    if (manifest) return (await manifest)?.descriptor;
    return once(this.#descriptors, key, () => repository.headManifest(reference, signal));
  }

  /** A small blob, verified; undefined when there is none. Throws RegistryError or the signal's reason. */
  blob(repository: Repository, digest: Digest, signal: AbortSignal): Promise<Buffer | undefined> {
    const options = { maxBytes: MAX_DOCUMENT_BYTES, signal };
    return once(this.#blobs, this.#key(repository, digest), () => repository.getBlob(digest, options));
  }

  /** Repositories of several registries may have one name. */
  #key(repository: Repository, reference: string): string {
    const number = this.#scopes.get(repository) ?? this.#scopes.size;
    this.#scopes.set(repository, number);
    return `${number} ${reference}`;
  }
}

function once<T>(made: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  const known = made.get(key);
  if (known) return known;
  const promise = make();
  // An answer that is not needed any more may still fail.
  promise.catch(() => {});
  made.set(key, promise);
  return promise;
}
