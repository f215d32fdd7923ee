/** The entries of an image's stream: read as long as somebody takes them, and which blob each of them is. */

import type { StreamedBlob } from '../blob/blob.ts';
import { MediaType } from '../oci/types.ts';
import type { ImageBlob } from './image-blobs.ts';
import type { RequestOptions } from './options.ts';
import { UNNAMED } from './queue.ts';

/**
 * Yields what `source` yields until `abandoned` resolves. A tool that exports may take its time over the rest of a large
 * entry, or stand still: when no registry is left, it is not waited for.
 */
export async function* entriesUntil<T>(source: AsyncIterable<T>, abandoned: Promise<void>): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  let isAbandoned = false;
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), abandoned]);
      isAbandoned = next === undefined;
      if (!next || next.done) return;
      yield next.value;
    }
  } finally {
    const returned = iterator.return?.();
    // A source that stands still would answer this only after the call before it.
    if (isAbandoned) returned?.catch(() => {});
    else await returned;
  }
}

/** Whether an entry is a layer that is compressed again, as far as its first bytes tell. */
export const isRecompressible = (
  { format }: Pick<StreamedBlob, 'format'>,
  { forceCompression, compression }: Pick<RequestOptions, 'forceCompression' | 'compression'>,
): boolean => forceCompression && (format === 'gzip' || format === 'zstd') && format !== compression;

/** The blob that an entry is by its name and first bytes; undefined for the legacy form, which does not tell. */
export function blobOfEntry(entry: StreamedBlob): ImageBlob | undefined {
  if (!entry.digest) return undefined;
  const plain = entry.format === 'tar';
  const compressed = entry.format === 'zstd' ? MediaType.ociLayerZstd : MediaType.ociLayerGzip;
  const mediaType = plain ? MediaType.ociLayer : compressed;
  return { key: entry.digest, plain, mediaType, size: entry.size, diffId: plain ? entry.digest : undefined };
}

/** The layer of a legacy `<id>/layer.tar`, whose diffID only its bytes will tell. */
export function unnamedLayer({ name, size }: StreamedBlob): ImageBlob {
  // `<id>/layer.tar`: the ID of the old form tells the layers apart, though it is no digest of theirs.
  const label = `layer ${name.slice(0, 12)}`;
  return { key: UNNAMED, plain: true, mediaType: MediaType.ociLayer, size, diffId: undefined, label };
}
