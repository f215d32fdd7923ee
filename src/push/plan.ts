/** What can be known of an engine's image without its export, so that an image that is there is never exported. */

import { MAX_DOCUMENT_BYTES, readConfig } from '../oci/documents.ts';
import type { ImageTree } from '../oci/image-tree.ts';
import { type Descriptor, type Digest, type Index, isIndexType, isManifestType } from '../oci/types.ts';
import type { Repository } from '../registry/repository.ts';
import type { FoundImage } from '../source/source.ts';
import type { PushContext } from './context.ts';
import { explain } from './error.ts';

/** The tree of an engine's image as the engine's own store tells it, else as the registry has it; undefined when neither does. */
export const treeWithoutExport = async (job: PushContext, found: FoundImage): Promise<ImageTree | undefined> =>
  (await found.documents?.(job.signal)) ?? (await treeFromRegistry(job, found));

/**
 * The tree of an engine's image out of the first target's own documents: under its manifest's or index's digest
 * (containerd image store), or composed from its config (classic stores). Undefined when the registry lacks them.
 */
export async function treeFromRegistry(job: PushContext, found: FoundImage): Promise<ImageTree | undefined> {
  const destination = job.registries.find((target) => target.isActive)?.active[0];
  if (!destination) return undefined;
  const { repository, signal } = destination;
  try {
    // Only what the digest is: docker-registry 2.8 answers 500 when it is asked for a manifest and has a config of that digest.
    if (found.root === undefined) return await composedTree(repository, found, signal);
    return await manifestTree(repository, found.root, signal);
  } catch (error) {
    job.signal.throwIfAborted();
    job.report({ type: 'debug', text: `the registry's own documents could not be read: ${explain(error).message}` });
    return undefined;
  }
}

async function composedTree(
  repository: Repository,
  found: FoundImage,
  signal: AbortSignal,
): Promise<ImageTree | undefined> {
  if (!found.diffIds) return undefined;
  const config = await repository.getBlob(found.imageId, { maxBytes: MAX_DOCUMENT_BYTES, signal });
  if (!config) return undefined;
  const { diff_ids: diffIds } = readConfig(config, `the config ${found.imageId}`).rootfs;
  return { kind: 'composed', config, diffIds };
}

async function manifestTree(
  repository: Repository,
  digest: Digest,
  signal: AbortSignal,
): Promise<ImageTree | undefined> {
  const documents = new Map<Digest, Buffer>();
  const asked = new Map<Digest, Promise<Descriptor | undefined>>();
  // Each document once, however many indexes name it.
  const collect = (wanted: Digest): Promise<Descriptor | undefined> => {
    const known = asked.get(wanted) ?? fetchAll(wanted);
    asked.set(wanted, known);
    return known;
  };
  /** Fetches a manifest, or an index with all that it names. Undefined when any part is missing. */
  const fetchAll = async (wanted: Digest): Promise<Descriptor | undefined> => {
    const found = await repository.getManifest(wanted, signal);
    if (!found) return undefined;
    documents.set(wanted, found.bytes);
    if (!isIndexType(found.descriptor.mediaType))
      return isManifestType(found.descriptor.mediaType) ? found.descriptor : undefined;
    const { manifests } = JSON.parse(found.bytes.toString('utf8')) as Index;
    const children = await Promise.all(manifests.map((child) => collect(child.digest)));
    return children.every((child) => child !== undefined) ? found.descriptor : undefined;
  };
  const root = await collect(digest);
  return root ? { kind: 'manifests', root, documents, absent: [] } : undefined;
}
