/**
 * A folder of a store whose files are opened by names from outside: those of a layer's tar. Each component is opened
 * below the one before (through /proc/self/fd, the openat(2) that Node lacks) and none may be a link, so no name leads
 * out of the folder; and nothing but a regular file is ever opened, for as root the opening of a device does things.
 */

import { closeSync, constants, fstatSync, open as openCallback, openSync } from 'node:fs';

/** O_PATH of Linux (the same on x86 and ARM), which Node does not name: a handle to look at, that opens nothing. */
const O_PATH = 0o10000000;
const LOOK = O_PATH | constants.O_NOFOLLOW;
const LOOK_AT_FOLDER = LOOK | constants.O_DIRECTORY;

/** Folders held open at once: tars are in folder order, so a path's parents and their neighbours are enough. */
const FOLDERS_KEPT = 64;

/** One folder held open, and how many openings are under way below it. */
interface Held {
  fd: number;
  users: number;
}

/** An open regular file and its length in bytes. The holder closes `fd`. */
export interface OpenedFile {
  readonly fd: number;
  readonly size: number;
}

/**
 * The components of a name below a folder: absolute names start at the folder, `..` is refused. Names are latin1: a
 * byte a letter.
 */
export function componentsOf(name: string): string[] {
  const components = name.split('/').filter((part) => part !== '' && part !== '.');
  if (components.includes('..') || components.some((part) => part.includes('\0'))) {
    throw new StoreError(`a name in the store leads out of its folder: ${JSON.stringify(name)}`, { path: name });
  }
  return components;
}

const below = (fd: number, name: string): Buffer => Buffer.from(`/proc/self/fd/${fd}/${name}`, 'latin1');

export class Folder {
  readonly path: string;
  readonly #root: Held;
  /** By path below the root, the most recently used last. */
  readonly #held = new Map<string, Held>();
  #closed = false;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.#root = { fd, users: 0 };
  }

  /** Holds a folder of the machine open; its own path may lead through links. Throws StoreError. */
  static at(path: string): Folder {
    try {
      return new Folder(path, openSync(path, O_PATH | constants.O_DIRECTORY));
    } catch (error) {
      throw storeError(error, path);
    }
  }

  /** A folder below this one. Throws StoreError. */
  folder(name: string): Folder {
    const path = this.#pathOf(name);
    try {
      const held = this.#walk(componentsOf(name));
      return new Folder(path, openSync(`/proc/self/fd/${held.fd}`, O_PATH | constants.O_DIRECTORY));
    } catch (error) {
      throw storeError(error, path);
    }
  }

  /** Opens a regular file below the folder. `name` is latin1, a byte a letter. Throws StoreError. */
  async file(name: string): Promise<OpenedFile> {
    let parent: Held | undefined;
    try {
      const [held, last] = this.#parentOf(name);
      parent = held;
      parent.users++;
      return openLooked(await look(below(parent.fd, last))) ?? this.#refuse(name);
    } catch (error) {
      throw storeError(error, this.#pathOf(name));
    } finally {
      if (parent) parent.users--;
      this.#trim();
    }
  }

  /** The same at once, on this thread. */
  fileNow(name: string): OpenedFile {
    try {
      const [parent, last] = this.#parentOf(name);
      const opened = openLooked(openSync(below(parent.fd, last), LOOK)) ?? this.#refuse(name);
      this.#trim();
      return opened;
    } catch (error) {
      throw storeError(error, this.#pathOf(name));
    }
  }

  /** Lets go of every folder held; openings under way end first. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#trim();
  }

  /** For messages alone: made for each of a layer's files, it would be a good part of the garbage of a push. */
  #pathOf(name: string): string {
    return `${this.path}/${name}`;
  }

  #refuse(name: string): never {
    const path = this.#pathOf(name);
    throw new StoreError(`${path} is not a regular file`, { path });
  }

  #parentOf(name: string): [Held, string] {
    const components = componentsOf(name);
    const last = components.pop();
    if (last === undefined) throw new StoreError(`${this.#pathOf(name)} is not a file`, { path: this.#pathOf(name) });
    return [this.#walk(components), last];
  }

  /**
   * The folder at these components, each opened below its parent. Synchronous: a folder is opened once for all its
   * files.
   */
  #walk(components: readonly string[]): Held {
    if (this.#closed) throw new StoreError(`${this.path} was closed`);
    if (components.length === 0) return this.#root;
    const key = components.join('/');
    const known = this.#held.get(key);
    if (known) this.#held.delete(key);
    const held = known ?? {
      fd: openSync(below(this.#walk(components.slice(0, -1)).fd, components.at(-1)!), LOOK_AT_FOLDER),
      users: 0,
    };
    this.#held.set(key, held);
    return held;
  }

  /** Closes the folders used longest ago, but none below which a file is being opened. */
  #trim(): void {
    const kept = this.#closed ? 0 : FOLDERS_KEPT;
    if (this.#held.size > kept) {
      for (const [key, held] of this.#held) {
        if (held.users > 0) continue;
        this.#held.delete(key);
        closeSync(held.fd);
        if (this.#held.size <= kept) break;
      }
    }
    if (!this.#closed || this.#root.users > 0 || this.#root.fd < 0) return;
    closeSync(this.#root.fd);
    this.#root.fd = -1;
  }
}

/** The handle of O_PATH: off the main thread, for finding a name on a cold disk takes milliseconds. */
function look(path: Buffer): Promise<number> {
  return new Promise((resolve, reject) => {
    openCallback(path, LOOK, (error, fd) => (error ? reject(error) : resolve(fd)));
  });
}

/**
 * Opens what a handle looks at; undefined when it is no regular file. The handle is closed. The inode is in memory by
 * now: no wait.
 */
function openLooked(handle: number): OpenedFile | undefined {
  try {
    const stat = fstatSync(handle);
    if (!stat.isFile()) return undefined;
    return { fd: openSync(`/proc/self/fd/${handle}`, constants.O_RDONLY), size: stat.size };
  } finally {
    closeSync(handle);
  }
}

/**
 * What went wrong with an engine's own files: always an obstacle (save does it then), never a reason to push something
 * else.
 */
interface StoreErrorFacts {
  /** The file or folder that was tried. */
  readonly path?: string | undefined;
  /** The system's code: ENOENT, EACCES … */
  readonly code?: string | undefined;
  readonly remedy?: string | undefined;
  readonly cause?: unknown;
}

/** An engine's store could not be read, or does not hold what it should. `docker save` is the way around it. */
export class StoreError extends Error {
  readonly path: string | undefined;
  readonly code: string | undefined;
  readonly remedy: string | undefined;

  constructor(message: string, facts: StoreErrorFacts = {}) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.name = 'StoreError';
    this.path = facts.path;
    this.code = facts.code;
    this.remedy = facts.remedy;
  }

  /** Whether more rights (root) might have helped. */
  get denied(): boolean {
    return this.code === 'EACCES' || this.code === 'EPERM';
  }

  /** Whether there is nothing under that path. */
  get missing(): boolean {
    return this.code === 'ENOENT' || this.code === 'ENOTDIR';
  }
}

/** A system error on a path of the store as a StoreError; a StoreError stays what it is. */
export function storeError(error: unknown, path: string): StoreError {
  if (error instanceof StoreError) return error;
  const code = (error as NodeJS.ErrnoException)?.code;
  return new StoreError(`cannot read ${path}: ${code ?? (error as Error)?.message ?? error}`, {
    path,
    code,
    cause: error,
  });
}
