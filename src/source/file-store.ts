/** A store whose blobs lie in files: OCI layouts and docker-archives, in a folder or a tar file. */

import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { StoredBlob } from '../blob/blob.ts';
import { ImageError } from '../oci/error.ts';
import type { ImageTree } from '../oci/image-tree.ts';
import type { Digest } from '../oci/types.ts';
import { blobFormat, decompress, HEAD_BYTES } from './compression.ts';
import { type Files, type OpenFile, storedBlob } from './files.ts';
import type { StoreSource } from './source.ts';

/** The name of a blob in a layout. image-layout.md, section Blobs. */
export const blobPath = (digest: Digest): string => `blobs/sha256/${digest.slice('sha256:'.length)}`;

/** Where a blob lies that is not where a layout has it. */
export interface BlobPlace {
  readonly path: string;
  /** A layer in a compression that registries have no media type for: its bytes are what this decompresses to. */
  readonly compression?: 'xz' | 'bzip2' | undefined;
}

export class FileStore implements StoreSource {
  readonly kind = 'store';
  readonly description: string;
  readonly tree: ImageTree;
  readonly #files: Files;
  readonly #places: ReadonlyMap<Digest, BlobPlace>;

  constructor(files: Files, tree: ImageTree, places: ReadonlyMap<Digest, BlobPlace> = new Map()) {
    this.description = files.description;
    this.tree = tree;
    this.#files = files;
    this.#places = places;
  }

  async open(digest: Digest): Promise<StoredBlob | undefined> {
    const { path, compression } = this.#places.get(digest) ?? { path: blobPath(digest) };
    const file = await this.#files.open(path);
    if (!file) {
      const document = this.tree.kind === 'manifests' ? this.tree.documents.get(digest) : undefined;
      return document && documentBlob(document);
    }
    if (compression) return decompressedBlob(file, compression);
    if (file.isOutside && (await fileDigest(file)) !== digest) {
      throw new ImageError(
        'Layout',
        `${path} in ${this.description} leads out of the folder, to other bytes than ${digest}`,
        {
          remedy: 'make the layout again, with its own copy of each blob',
        },
      );
    }
    return storedBlob(file);
  }

  close(): Promise<void> {
    return this.#files.close();
  }
}

/** The digest of a file's bytes. */
export async function fileDigest(file: OpenFile): Promise<Digest> {
  const sha = createHash('sha256');
  const input = file.read();
  for await (const chunk of input as AsyncIterable<Buffer>) {
    sha.update(chunk);
    input.recycle?.(chunk);
  }
  return `sha256:${sha.digest('hex')}`;
}

function documentBlob(bytes: Buffer): StoredBlob {
  const read = (start = 0, end = bytes.length) => Readable.from([bytes.subarray(start, end)], { objectMode: false });
  return { size: bytes.length, format: blobFormat(bytes.subarray(0, HEAD_BYTES)), seekable: true, read };
}

function decompressedBlob(file: OpenFile, compression: 'xz' | 'bzip2'): StoredBlob {
  const read = () => Readable.from(decompress(file.read(), compression), { objectMode: false });
  return { format: 'tar', seekable: false, read };
}
