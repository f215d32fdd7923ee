/**
 * The part of the layer cache that is on this machine: a folder that any number of processes use at once. Files get
 * their final name by rename or link when they are complete, and a name always means the same bytes, so nothing is
 * locked.
 *
 *     v1/<compression>-<level>/known/<diffID>.json          which blob stands for a layer
 *     v1/<compression>-<level>/layers/<diffID>-<digest>     the blob
 *     tmp/<process>/                                        what is being made, restored or read by one process
 *
 * All of it is readable by its owner alone: layers hold source code, and sometimes secrets.
 */

import { randomUUID } from 'node:crypto';
import { chmod, copyFile, link, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makePrivateFolder, ownName, PRIVATE_FILE, removeAbandoned } from '../blob/private-folder.ts';
import { hexOf } from '../oci/types.ts';
import {
  formatKnownLayers,
  formatName,
  type KnownLayer,
  type LayerFormat,
  MAX_KNOWN_LAYERS,
  parseKnownLayers,
} from './known-layers.ts';

/** Small files that are read at once: their reading is what the first moment of a warm push waits for. */
const READS_AT_ONCE = 64;

export class LocalStore {
  /** The folder of this process, on the same file system as the rest. */
  readonly session: string;
  readonly #dir: string;
  readonly #known: string;
  readonly #layers: string;
  readonly #sessions: string;
  #made: Promise<void> | undefined;

  /** Nothing is made yet: a push that has nothing to keep leaves no folder behind. */
  constructor(dir: string, format: LayerFormat) {
    this.#dir = dir;
    const root = join(dir, 'v1', formatName(format));
    this.#known = join(root, 'known');
    this.#layers = join(root, 'layers');
    this.#sessions = join(dir, 'tmp');
    this.session = join(this.#sessions, ownName());
  }

  /**
   * Makes the folders, once, and removes what killed processes left. Throws LayerError for a folder that is not safe,
   * and what the file system throws.
   */
  make(): Promise<void> {
    this.#made ??= this.#make();
    return this.#made;
  }

  async #make(): Promise<void> {
    await makePrivateFolder(this.#dir);
    for (const path of [this.#known, this.#layers, this.session]) await makePrivateFolder(path);
    await removeAbandoned(this.#sessions);
  }

  /**
   * Every layer that a push from this machine has noted, the newest first. Throws LayerError for a folder that is not
   * safe.
   */
  async known(): Promise<KnownLayer[]> {
    if (!(await stat(this.#dir).catch(() => undefined))) return [];
    await makePrivateFolder(this.#dir);
    const files = (await listByAge(this.#known)).reverse();
    for (const { path } of files.splice(MAX_KNOWN_LAYERS)) await rm(path, { force: true });
    const layers: KnownLayer[] = [];
    for (let at = 0; at < files.length; at += READS_AT_ONCE) {
      const texts = files.slice(at, at + READS_AT_ONCE).map(({ path }) => readFile(path, 'utf8').catch(() => ''));
      for (const text of await Promise.all(texts)) layers.push(...parseKnownLayers(text));
    }
    return layers;
  }

  /** Notes which blob stands for a layer. */
  async note(layer: KnownLayer): Promise<void> {
    await this.write(join(this.#known, `${hexOf(layer.diffId)}.json`), formatKnownLayers([layer]));
  }

  /** Writes a small file so that others see all of it or nothing. */
  async write(path: string, text: string): Promise<void> {
    await this.make();
    const part = join(this.session, randomUUID());
    await writeFile(part, text, { mode: PRIVATE_FILE });
    await rename(part, path);
  }

  /** Where the blob of a layer lies if this machine has it. */
  path({ diffId, descriptor }: KnownLayer): string {
    return join(this.#layers, `${hexOf(diffId)}-${hexOf(descriptor.digest)}`);
  }

  /** Takes over a complete file as the blob of a layer; its old name is gone. Resolves to the new one. */
  async adopt(file: string, layer: KnownLayer): Promise<string> {
    await this.make();
    const path = this.path(layer);
    if (file !== path) await move(file, path, join(this.session, randomUUID()));
    return path;
  }

  /**
   * A name of this process for a blob, which lasts whatever other processes remove; undefined when the blob is not
   * there.
   */
  async hold(layer: KnownLayer): Promise<string | undefined> {
    await this.make();
    const path = this.path(layer);
    const held = join(this.session, randomUUID());
    try {
      const now = new Date();
      await linkOrCopy(path, held);
      // The time of last use, for `prune`. A link shares it with the file.
      await utimes(held, now, now);
      return held;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** Removes a blob that is not what its name says. */
  async discard(layer: KnownLayer): Promise<void> {
    await rm(this.path(layer), { force: true });
  }

  /** Removes the blobs that were not used for longest, until all of them have at most `bytes`. Resolves to how many. */
  async prune(bytes: number): Promise<number> {
    const files = await listByAge(this.#layers);
    let total = files.reduce((sum, { size }) => sum + size, 0);
    let removed = 0;
    for (const { path, size } of files) {
      if (total <= bytes) break;
      await rm(path, { force: true });
      total -= size;
      removed++;
    }
    return removed;
  }

  /** Removes the folder of this process. Others may have made it: it is where restored files go. */
  async close(): Promise<void> {
    // A tar that was under way may still write.
    await rm(this.session, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Links a file under a second name; where the file system has no links, a copy. */
export async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw error;
    await copyFile(from, to);
    await chmod(to, PRIVATE_FILE);
  }
}

async function move(from: string, to: string, part: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error;
    await copyFile(from, part);
    await chmod(part, PRIVATE_FILE);
    await rename(part, to);
    await rm(from, { force: true });
  }
}

interface AgedFile {
  readonly path: string;
  readonly size: number;
  readonly used: number;
}

/** The files of a folder, those first that were not used for longest. Files that vanish meanwhile are left out. */
async function listByAge(folder: string): Promise<AgedFile[]> {
  const names = await readdir(folder).catch(() => []);
  const files = await Promise.all(
    names.map(async (name) => {
      const path = join(folder, name);
      const found = await stat(path).catch(() => undefined);
      return found?.isFile() ? [{ path, size: found.size, used: found.mtimeMs }] : [];
    }),
  );
  return files.flat().sort((a, b) => a.used - b.used);
}
