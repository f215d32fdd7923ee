/** The folder where layers wait for the wire: made once, read as often as a request is repeated, removed when the registry has them. */
import { mkdir, rmdir, statfs } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { LayerError } from './errors.ts';
import { SpoolFile } from './spool-file.ts';
import { SpoolSpace } from './spool-space.ts';

/** Half of the free disk: the engine, its exporter's temporary files and the job's other steps live on the same one. */
const SHARE_OF_FREE_DISK = 0.5;

export class Spool {
  /** Absolute. */
  readonly dir: string;
  readonly #space: SpoolSpace;
  readonly #files: SpoolFile[] = [];
  readonly #madeHere: boolean;

  private constructor(dir: string, bound: number, madeHere: boolean) {
    this.dir = dir;
    this.#space = new SpoolSpace(bound);
    this.#madeHere = madeHere;
  }

  /**
   * Opens (makes) the folder. From `bound` bytes on disk on, makers are held back to what their uploads need; without it, half
   * of the free disk. Throws LayerError when the folder can't be made.
   */
  static async open(dir: string, options: { readonly bound?: number | undefined } = {}): Promise<Spool> {
    const folder = resolve(dir);
    try {
      const made = await mkdir(folder, { recursive: true });
      const bound = options.bound ?? (await freeBytes(folder)) * SHARE_OF_FREE_DISK;
      return new Spool(folder, bound, made !== undefined);
    } catch (cause) {
      const remedy = 'set RUNNER_TEMP (or TMPDIR) to a folder that this process may write';
      throw new LayerError(`making the spool folder ${folder}`, { cause, remedy });
    }
  }

  /** Bytes of all spool files that exist now, the kept ones too. */
  get bytesOnDisk(): number {
    return this.#space.bytes;
  }

  /** The most bytes that were ever on disk at once. */
  get peakBytes(): number {
    return this.#space.peak;
  }

  /** A new file; at `path` when the cache wants it in a fixed place, over whatever is there. */
  file(path?: string): SpoolFile {
    const name = `layer-${process.pid}-${this.#files.length + 1}.blob`;
    const file = new SpoolFile(path === undefined ? join(this.dir, name) : resolve(path), this.#space);
    this.#files.push(file);
    return file;
  }

  /** Ends all makers and removes every file that is not kept, and the folder if it was made here and is empty. */
  async close(): Promise<void> {
    this.#space.close(new LayerError('the spool was closed'));
    await Promise.all(this.#files.map((file) => file.remove()));
    // Not empty: the cache keeps files in it.
    if (this.#madeHere) await rmdir(this.dir).catch(() => undefined);
  }
}

async function freeBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  return bavail * bsize;
}
