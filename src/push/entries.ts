/** The entries of a stream: as long as somebody wants them, and as the pieces that they are. */
import { MediaType } from '../image/oci.ts';
import type { StreamedBlob } from '../image/source.ts';
import { UNNAMED } from './deliveries.ts';
import type { Piece } from './pieces.ts';

/**
 * Gives what `source` gives until `abandoned` resolves. A tool that exports may take its time over the rest of a large
 * entry, or stand still: whoever has nobody left to send to does not wait for it.
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

/** The piece that an entry is by its name and first bytes; undefined for the legacy form, which does not tell. */
export function pieceOfEntry(entry: StreamedBlob): Piece | undefined {
  if (!entry.digest) return undefined;
  const plain = entry.form === 'tar';
  const mediaType = plain
    ? MediaType.ociLayer
    : entry.form === 'zstd'
      ? MediaType.ociLayerZstd
      : MediaType.ociLayerGzip;
  return { key: entry.digest, plain, mediaType, size: entry.size, diffId: plain ? entry.digest : undefined };
}

/** The piece of a legacy `<id>/layer.tar`, whose diffID only its bytes will tell. */
export function unnamedPiece({ name, size }: StreamedBlob): Piece {
  // `<id>/layer.tar`: the ID of the old form tells the layers apart, though it is no digest of theirs.
  return {
    key: UNNAMED,
    plain: true,
    mediaType: MediaType.ociLayer,
    size,
    diffId: undefined,
    label: name.slice(0, 12),
  };
}
