/** The headers of a tar file, decoded by tar-stream; the bodies between them go their own ways, without a copy through it. */
import { extract, type Header } from 'tar-stream';

/** A header takes whole blocks, and a body's last one is filled up. Bytes. */
export const TAR_BLOCK = 512;
/** Long names and PAX records come before their header; tar-stream refuses more than 4 MiB of them. */
const MAX_HEADER_BLOCKS = 3 * 8192 + 4;

/** Room for one block, so that it asks for the next when it needs it. Its types leave the other out: very old tar files have no magic. */
const OPTIONS = { highWaterMark: 1, allowUnknownFormat: true };

/** The bytes after a header. A folder has none, whatever its header says; waiting for them would be waiting for ever. */
export const bodySize = ({ type, size }: Header): number => (type === 'directory' ? 0 : size);

/**
 * One header with the long names and PAX records before it, and where its body begins. `blockAt` gives the block at a position, less at
 * the end of the file; it is asked in order. Undefined for a block of zeros and at the end. Throws Error for what is no header.
 */
export async function readHeader(
  blockAt: (position: number) => Promise<Buffer>,
  start: number,
): Promise<{ header: Header; body: number } | undefined> {
  const first = await blockAt(start);
  if (first.length === 0 || (first.length === TAR_BLOCK && first.every((byte) => byte === 0))) return undefined;
  const decoder = new Decoder();
  try {
    for (let blocks = 0; blocks < MAX_HEADER_BLOCKS; blocks += 1) {
      const position = start + blocks * TAR_BLOCK;
      const block = blocks === 0 ? first : await blockAt(position);
      if (block.length < TAR_BLOCK) throw new Error(`it is cut off in a header at byte ${position}`);
      const result = await decoder.take(block);
      if (result && 'error' in result)
        throw new Error(`its header at byte ${position} is not one: ${result.error.message}`, { cause: result.error });
      if (result) return { header: result.header, body: position + TAR_BLOCK };
    }
    throw new Error(`its header at byte ${start} has no end`);
  } finally {
    decoder.end();
  }
}

type Decoded = { readonly header: Header } | { readonly error: Error } | undefined;

/** tar-stream for one header. */
class Decoder {
  readonly #extract = extract(OPTIONS);
  #settle: (result: Decoded) => void = () => {};

  constructor() {
    this.#extract.on('entry', (header) => this.#settle({ header }));
    this.#extract.on('error', (error) => this.#settle({ error }));
    this.#extract.on('drain', () => this.#settle(undefined));
  }

  /** Takes a block; undefined when it wants another one. */
  take(block: Buffer): Promise<Decoded> {
    return new Promise((resolve) => {
      this.#settle = resolve;
      this.#extract.write(block);
    });
  }

  end(): void {
    this.#extract.destroy();
  }
}
