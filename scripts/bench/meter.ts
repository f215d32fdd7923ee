/** What a run costs: time, CPU by side, memory, disk. Linux: from /proc. */
import { readdirSync, readFileSync } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** The kernel's clock ticks a second as /proc tells them (USER_HZ): 100 on every Linux that Node runs on. */
const TICKS = 100;

/** The fields of /proc/PID/stat behind the program's name, which may hold spaces; the first is field 3. */
const statOf = (pid: number | 'self'): readonly string[] => {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
};

/** CPU seconds (user and system) of all children of this process that have ended, and of theirs. */
export const endedChildrenCpu = (): number => {
  const fields = statOf('self');
  return (Number(fields[13]) + Number(fields[14])) / TICKS;
};

/** CPU seconds of a process, of those that it started, and of those of them that have ended. 0 without one. */
export const treeCpu = (pid: number | undefined): number => {
  if (pid === undefined) return 0;
  const stats = new Map<number, readonly string[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      stats.set(Number(name), statOf(Number(name)));
    } catch {
      // It has ended since.
    }
  }
  const sum = (of: number): number => {
    const own = [11, 12, 13, 14].reduce((ticks, field) => ticks + Number(stats.get(of)?.[field] ?? 0), 0) / TICKS;
    const children = [...stats].filter(([, fields]) => Number(fields[1]) === of);
    return children.reduce((seconds, [child]) => seconds + sum(child), own);
  };
  return sum(pid);
};

/** Bytes on disk of all files below some folders; those that vanish meanwhile or do not exist count as nothing. */
export const diskOf = async (folders: readonly string[]): Promise<number> => {
  const sizes = await Promise.all(folders.map(sizeOf));
  return sizes.reduce((sum, size) => sum + size, 0);
};

const BLOCK = 512;

async function sizeOf(folder: string): Promise<number> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const sizes = entries.map(async (entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sizeOf(path);
    const stat = await lstat(path).catch(() => undefined);
    return (stat?.blocks ?? 0) * BLOCK;
  });
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

const LOOK_EVERY_MS = 250;

/** Watches folders; `stop` gives the most bytes that they held beyond what they held at first. */
export const peakDiskOf = async (folders: readonly string[]): Promise<{ stop(): Promise<number> }> => {
  const before = await diskOf(folders);
  let peak = 0;
  let looking: Promise<void> = Promise.resolve();
  const look = async () => {
    peak = Math.max(peak, (await diskOf(folders)) - before);
  };
  const timer = setInterval(() => {
    looking = looking.then(look);
  }, LOOK_EVERY_MS);
  return {
    stop: async () => {
      clearInterval(timer);
      await looking;
      return peak;
    },
  };
};

/** The process below this one whose program has this name (of at most 15 letters); undefined when there is none. */
export const descendant = (program: string): number | undefined => {
  const processes = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const parent = Number(statOf(Number(name))[1]);
        return [{ pid: Number(name), parent, program: readFileSync(`/proc/${name}/comm`, 'utf8').trim() }];
      } catch {
        return [];
      }
    });
  const below = (pid: number): boolean => {
    const parent = processes.find((process) => process.pid === pid)?.parent;
    return parent !== undefined && (parent === process.pid || below(parent));
  };
  return processes.find((process) => process.program === program && below(process.pid))?.pid;
};
