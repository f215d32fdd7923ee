/** The repository that an image is read from (`docker://REFERENCE`): in a registry of the destinations, or in another one. */

import type { Reference } from '../oci/reference.ts';
import type { Registry } from '../registry/registry.ts';
import type { Repository } from '../registry/repository.ts';
import type { FoundImage } from '../source/source.ts';
import type { PushContext } from './context.ts';
import { blobsOf } from './image-blobs.ts';
import { openRegistry } from './registry-hosts.ts';

export class SourceRepository {
  readonly #job: PushContext;
  #reference: Reference | undefined;
  /** A registry that nothing is pushed to. */
  #own: Registry | undefined;

  constructor(job: PushContext) {
    this.#job = job;
  }

  /**
   * Opens the repository for reading. In a registry of the destinations it shares their connections and credentials; for another one
   * credentials are found in files. Throws for unusable credentials.
   */
  async open(reference: Reference): Promise<Repository> {
    this.#reference = reference;
    const { hosts, request, report, signal } = this.#job;
    const { apiHost, repository } = reference;
    const shared = hosts.get(apiHost)?.registry;
    if (shared) return shared.repository(repository, 'pull');
    const { registry } = await openRegistry(request, apiHost, [reference], { report, signal });
    this.#own = registry;
    return registry.repository(repository, 'pull');
  }

  /** The image that was found, its blobs to be mounted where its registry is a destination too. Its `close` ends the connections. */
  async foundImage(found: FoundImage): Promise<FoundImage> {
    const reference = this.#reference;
    if (!reference) return found;
    const { hosts, known, signal } = this.#job;
    const tree = await found.documents?.(signal);
    const blobs = hosts.has(reference.apiHost) && tree ? blobsOf(tree) : [];
    const held = new Set(tree?.kind === 'manifests' ? [...tree.documents.keys(), ...blobs.map(({ key }) => key)] : []);
    for (const { host, repositories } of this.#job.registries) {
      for (const target of repositories) {
        if (host === reference.apiHost && target.repository.name === reference.repository) target.noteHeld(held);
      }
    }
    for (const { key } of blobs) known.addRepository(reference.apiHost, key, reference.repository);
    return { ...found, close: () => this.close() };
  }

  async close(): Promise<void> {
    await this.#own?.close();
  }
}
