/**
 * Known layers: which compressed blob stands for a diffID. Learnt from this machine's spool, the Actions cache, and
 * from images pushed earlier (learn.ts). All of it is a hint: a blob counts as there only after the registry said so.
 */
import { type Descriptor, type Digest, isForeignLayer } from '../image/oci.ts';
import { layerMediaType } from '../layer/compress/compression.ts';

export class KnownLayers {
  readonly #byDiffId = new Map<Digest, Descriptor[]>();
  readonly #repositories = new Map<string, Set<string>>();
  readonly #compression: 'gzip' | 'zstd';

  constructor(compression: 'gzip' | 'zstd') {
    this.#compression = compression;
  }

  /** Notes that a blob stands for a layer. One of another compression than the one asked for is not reused. */
  add(diffId: Digest, layer: Descriptor): void {
    if (isForeignLayer(layer) || !layer.mediaType.endsWith(this.#compression)) return;
    const list = this.#byDiffId.get(diffId) ?? [];
    if (!list.some(({ digest }) => digest === layer.digest)) {
      // Our own manifests are OCI manifests; a layer of a Docker manifest has another name there, and the same bytes.
      list.push({ mediaType: layerMediaType(this.#compression), digest: layer.digest, size: layer.size });
    }
    this.#byDiffId.set(diffId, list);
  }

  /** Notes that a repository of a registry is likely to have a blob, so that it can be mounted from there. */
  addRepository(host: string, digest: Digest, repository: string): void {
    const key = `${host} ${digest}`;
    this.#repositories.set(key, (this.#repositories.get(key) ?? new Set()).add(repository));
  }

  /** The blobs that may stand for a layer, the likeliest first. */
  candidates(diffId: Digest): readonly Descriptor[] {
    return this.#byDiffId.get(diffId) ?? [];
  }

  /** The repositories of a registry that are likely to have a blob. */
  repositories(host: string, digest: Digest): readonly string[] {
    return [...(this.#repositories.get(`${host} ${digest}`) ?? [])];
  }
}
