/**
 * Whether processes have anything to do, by the scheduler's own counts and states in /proc: a process that a busy machine keeps from
 * running is not taken for one that waits. Linux.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** Between two looks, ms, and how many looks in a row must find nothing. */
const LOOK_EVERY_MS = 40;
const LOOKS = 3;

/** CPU time between two looks that is no work: timers of run-times, ns. */
const IDLE_NS = 1_000_000;

/** Processes, each with all that it started. */
export class Activity {
  readonly #roots: number[];

  constructor(...roots: readonly number[]) {
    this.#roots = [...roots];
  }

  add(pid: number): void {
    this.#roots.push(pid);
  }

  /**
   * Resolves when all of them have waited for something else for a while; after `limit` ms at the latest. Returns whether they did so
   * from the start.
   */
  async quiet(limit = Number.POSITIVE_INFINITY): Promise<boolean> {
    let last = this.#look();
    let waited = 0;
    for (let quiet = 0; quiet < LOOKS && waited < limit; waited += LOOK_EVERY_MS) {
      await sleep(LOOK_EVERY_MS);
      const now = this.#look();
      const isQuiet = !now.isRunning && now.tasks === last.tasks && now.ranNs - last.ranNs < IDLE_NS;
      quiet = isQuiet ? quiet + 1 : 0;
      last = now;
    }
    return waited === LOOKS * LOOK_EVERY_MS;
  }

  #look(): { tasks: string; ranNs: number; isRunning: boolean } {
    const tasks = tree(this.#roots).flatMap(tasksOf);
    return {
      tasks: tasks.map(({ id }) => id).join(),
      ranNs: tasks.reduce((sum, { ranNs }) => sum + ranNs, 0),
      // R: runs or is kept from it; D: waits for a disk.
      isRunning: tasks.some(({ state }) => state === 'R' || state === 'D'),
    };
  }
}

const parentOf = (pid: number): number => Number(statOf(`/proc/${pid}/stat`)[1]);

/** The fields of a stat file behind the program's name, which may hold spaces: state, parent, and so on. */
function statOf(path: string): readonly string[] {
  const text = readFileSync(path, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** The processes and all below them. */
function tree(roots: readonly number[]): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const parent = orNothing(() => parentOf(Number(name)));
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const below = (pid: number): number[] => [pid, ...(children.get(pid) ?? []).flatMap(below)];
  return roots.flatMap(below);
}

interface Task {
  readonly id: string;
  readonly state: string | undefined;
  readonly ranNs: number;
}

function tasksOf(pid: number): Task[] {
  const ids = orNothing(() => readdirSync(`/proc/${pid}/task`)) ?? [];
  return ids.flatMap((id) => {
    const task = `/proc/${pid}/task/${id}`;
    const read = () => ({
      id,
      state: statOf(`${task}/stat`)[0],
      ranNs: Number(readFileSync(`${task}/schedstat`, 'utf8').split(' ', 1)[0]),
    });
    return orNothing(read) ?? [];
  });
}

/** Undefined for a process that has ended meanwhile. */
function orNothing<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
