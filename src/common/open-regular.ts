/**
 * Files that are opened by a name from outside: an input, a link in a folder, an entry of a config file. A FIFO would
 * hold `open` until it has a writer, in a thread that no signal ends, and a device answers in its own way. So each file
 * is opened without waiting (O_NONBLOCK has no effect on a regular file), and refused unless it is a regular one.
 */

import { close, closeSync, constants, fstat, fstatSync, open, openSync, read, readSync, type Stats } from 'node:fs';
import { promisify } from 'node:util';

const FLAGS = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0) | (constants.O_NOCTTY ?? 0);

const openFile = promisify(open);
const statFile = promisify(fstat);
const closeFile = promisify(close);
const readFile = promisify(read);

/** An open regular file and its size in bytes. The holder closes `fd`. */
interface RegularFile {
  readonly fd: number;
  readonly size: number;
}

/** What stands where a regular file should be. `code` is like those of the system's own errors. */
export class NotRegularError extends Error {
  readonly code = 'ENOTREG';

  constructor(path: string, what: string) {
    super(`${path} is ${what}, not a regular file`);
    this.name = 'NotRegularError';
  }
}

/**
 * Opens a regular file for reading, following links. Throws NotRegularError, or the system's error (ENOENT, EACCES
 * ...).
 */
export async function openRegular(path: string): Promise<RegularFile> {
  const fd = await openFile(path, FLAGS).catch((error) => {
    throw explained(error, path);
  });
  try {
    return { fd, size: regularSize(await statFile(fd), path) };
  } catch (error) {
    await closeFile(fd);
    throw error;
  }
}

/** The same on this thread. */
export function openRegularSync(path: string): RegularFile {
  let fd: number;
  try {
    fd = openSync(path, FLAGS);
  } catch (error) {
    throw explained(error, path);
  }
  try {
    return { fd, size: regularSize(fstatSync(fd), path) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/**
 * The bytes of a small regular file. Throws as `openRegular` does, and an Error for a file of more than `limit` bytes.
 */
export async function readRegular(path: string, limit: number): Promise<Buffer> {
  const { fd, size } = await openRegular(path);
  try {
    const bytes = bufferFor(path, size, limit);
    let done = 0;
    while (done < bytes.length) {
      const { bytesRead } = await readFile(fd, bytes, done, bytes.length - done, done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return withinLimit(path, bytes.subarray(0, done), limit);
  } finally {
    await closeFile(fd);
  }
}

/** The same on this thread. */
export function readRegularSync(path: string, limit: number): Buffer {
  const { fd, size } = openRegularSync(path);
  try {
    const bytes = bufferFor(path, size, limit);
    let done = 0;
    while (done < bytes.length) {
      const count = readSync(fd, bytes, done, bytes.length - done, done);
      if (count === 0) break;
      done += count;
    }
    return withinLimit(path, bytes.subarray(0, done), limit);
  } finally {
    closeSync(fd);
  }
}

/** Files of /proc say that they have 0 bytes and have more: they are read up to one byte over the limit. */
function bufferFor(path: string, size: number, limit: number): Buffer {
  if (size > limit) throw tooLarge(path, size, limit);
  return Buffer.alloc(size === 0 ? limit + 1 : size);
}

function withinLimit(path: string, bytes: Buffer, limit: number): Buffer {
  if (bytes.length > limit) throw tooLarge(path, bytes.length, limit);
  return bytes;
}

const tooLarge = (path: string, size: number, limit: number): Error =>
  new Error(`${path} has ${size} bytes, more than the ${limit} that are read of such a file`);

function regularSize(stats: Stats, path: string): number {
  if (stats.isFile()) return stats.size;
  throw new NotRegularError(path, kindOf(stats));
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return 'a folder';
  if (stats.isFIFO()) return 'a FIFO';
  if (stats.isSocket()) return 'a socket';
  return stats.isCharacterDevice() || stats.isBlockDevice() ? 'a device' : 'something else';
}

/** Linux answers ENXIO when a socket is opened, or a device that nothing drives. */
function explained(error: unknown, path: string): unknown {
  if ((error as NodeJS.ErrnoException).code !== 'ENXIO') return error;
  return new NotRegularError(path, 'a socket or a device without a driver');
}
