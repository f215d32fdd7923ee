/**
 * Folders for layers on their way and in the cache: readable by their owner alone, since layers hold source code and
 * sometimes secrets, and named so that a later process knows whether the one that made them still runs.
 */

import { createHash, randomUUID } from 'node:crypto';
import { constants, readFileSync, readlinkSync } from 'node:fs';
import { chmod, lstat, mkdir, readdir, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { LayerError } from '../common/error.ts';

/** Files that only their owner may read and write, for `open` and `writeFile`. */
export const PRIVATE_FILE = 0o600;

const { S_IFDIR, S_IFMT } = constants;

const PRIVATE_FOLDER = 0o700;
const OTHERS = 0o077;
const WRITABLE_BY_OTHERS = 0o022;

/** Set for folders that users share, such as /tmp: only the owner of a file may remove it there. */
const STICKY = 0o1000;

/**
 * Makes a folder (and those above it) for this user alone, or takes one that exists and is this user's, and closes it
 * to others. What a link of the user's own leads to (a larger disk), and a folder that users share, keep their modes:
 * they are not only for layers, and the folders and files made in them are private by themselves. Throws LayerError for
 * a folder that another user may have put there to read or replace what is written, and what the file system throws.
 */
export async function makePrivateFolder(path: string): Promise<{ readonly made: boolean }> {
  const made = (await mkdir(path, { recursive: true, mode: PRIVATE_FOLDER })) !== undefined;
  await expectOwnFolder(path);
  const { uid, mode } = await lstat(path);
  const isOpen = (mode & S_IFMT) === S_IFDIR && (mode & STICKY) === 0 && (mode & OTHERS) !== 0;
  if (isOpen && uid === process.getuid?.()) await chmod(path, PRIVATE_FOLDER);
  return { made };
}

/**
 * Throws LayerError for a folder that another user has put where this one would write. One that does not exist passes.
 */
export async function expectOwnFolder(path: string): Promise<void> {
  const uid = process.getuid?.();
  const found = await lstat(path).catch(() => undefined);
  // Windows has neither owners as numbers nor modes: a user's temporary folder is that user's alone.
  if (found && uid !== undefined && found.uid !== uid) await expectTrustedParent(path, found.uid);
}

/**
 * A job that runs partly in containers has files of two users, in a folder where no third one can write: that is no
 * intruder.
 */
async function expectTrustedParent(path: string, owner: number): Promise<void> {
  const parent = await stat(dirname(path));
  if ((parent.mode & WRITABLE_BY_OTHERS) === 0) return;
  const what = `the folder ${path} belongs to another user (uid ${owner}), in a folder that other users may write`;
  const remedy = 'remove it, or set RUNNER_TEMP (or TMPDIR) to a folder of your own';
  throw new LayerError(`${what}: it is not used`, { remedy });
}

/**
 * What tells processes apart that share a folder: the process, when it began, and the machine (the container) that
 * counts it.
 */
interface Owner {
  readonly pid: number;
  readonly began: string;
  readonly machine: string;
}

/** A name for a file or folder of this process, another one each time: `<prefix><pid>-<start>-<machine>-<random>`. */
export function ownName(prefix = ''): string {
  const { pid, began, machine } = self();
  return `${prefix}${pid}-${began}-${machine}-${randomUUID().slice(0, 8)}`;
}

const OWN_NAME = /^(?<pid>\d+)-(?<began>\d+)-(?<machine>[0-9a-f]{8})-[0-9a-f]{8}$/;

/**
 * Whether the owner runs can't be told for another machine (a shared home) or an old name. No push takes longer.
 * Milliseconds.
 */
const ABANDONED_AFTER = 24 * 60 * 60 * 1000;

/**
 * Removes what lies in `parent`, has a name with this prefix, and belongs to a process that was killed. Never rejects.
 */
export async function removeAbandoned(parent: string, prefix = ''): Promise<void> {
  const names = await readdir(parent).catch(() => []);
  const ours = names.filter((name) => name.startsWith(prefix));
  await Promise.all(
    ours.map(async (name) => {
      const path = join(parent, name);
      if (await isAbandoned(path, prefix)) await rm(path, { recursive: true, force: true });
    }),
  ).catch(() => undefined);
}

/** Whether the process that a file or folder belongs to, by its `ownName`, has ended. */
export async function isAbandoned(path: string, prefix = ''): Promise<boolean> {
  const owner = OWN_NAME.exec(basename(path).slice(prefix.length))?.groups as Record<keyof Owner, string> | undefined;
  if (owner?.machine === self().machine) return !runs(Number(owner.pid), owner.began);
  const found = await lstat(path).catch(() => undefined);
  return found !== undefined && Date.now() - found.mtimeMs > ABANDONED_AFTER;
}

function runs(pid: number, began: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it runs, as another user.
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  return startOf(pid) === began;
}

let known: Owner | undefined;

function self(): Owner {
  known ??= { pid: process.pid, began: startOf(process.pid), machine: machine() };
  return known;
}

/**
 * When a process began, in ticks since the machine's start, so that a number given out again is not taken for it; 0
 * where that is not told.
 */
function startOf(pid: number): string {
  // https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: field 22; field 2 may have spaces and brackets.
  const fields = read(() => readFileSync(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\)/s, '');
  return fields.split(' ')[20] ?? '0';
}

/** The boot and the process namespace, which is what a process's number is unique in. */
function machine(): string {
  const boot = read(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8'));
  const namespace = read(() => readlinkSync('/proc/self/ns/pid'));
  return createHash('sha256').update(`${hostname()}\n${boot}\n${namespace}`).digest('hex').slice(0, 8);
}

function read(from: () => string): string {
  try {
    return from();
  } catch {
    return '';
  }
}
