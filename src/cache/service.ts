/** The Actions cache service as a push sees it: calls with a deadline that never throw. */

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { realpath } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makePrivateFolder } from '../blob/private-folder.ts';

/** Restore or save `file` (a name in the process's `entries` folder), or look whether the key is there. */
export interface ServiceRequest {
  readonly id: number;
  readonly action: 'restore' | 'lookup' | 'save';
  readonly key: string;
  readonly file: string;
}

/** The key that was found (restore, lookup) or saved; without one `lines` say why, if there was a problem. */
export interface ServiceAnswer {
  readonly id: number;
  readonly key?: string;
  /** What @actions/cache wrote to the log of the job meanwhile, workflow commands included. */
  readonly lines: readonly string[];
}

/** The process is up and has loaded @actions/cache. */
export interface ServiceReady {
  readonly ready: true;
  /** isFeatureAvailable() of @actions/cache. */
  readonly available: boolean;
}

/** The folder that entries are packed from and unpacked into, relative to the process's working folder. */
export const ENTRIES = 'entries';

/** `hit`: found or saved, under this key. `miss`: not there. `trouble`: the service or the entry failed, and how. */
type Outcome =
  | { readonly kind: 'hit'; readonly key: string }
  | { readonly kind: 'miss' }
  | { readonly kind: 'taken' }
  | { readonly kind: 'trouble'; readonly why: string };

export interface Log {
  info(line: string): void;
  debug(line: string): void;
}

/** Milliseconds that a call may take, by action, and the start of the process. */
export interface Deadlines {
  readonly start: number;
  readonly lookup: number;
  readonly restore: number;
  readonly save: number;
}

const DEADLINES: Deadlines = {
  /** Loading @actions/cache takes about half a second on an idle machine. */
  start: 20_000,
  /**
   * One retry of @actions/cache (after 3 s), no more: pushing without the cache is quicker than waiting for the rest of
   * its 30 s.
   */
  lookup: 5_000,
  /** What takes longer is quicker made anew. */
  restore: 60_000,
  /** Saving delays no step: it happens after the job's steps. */
  save: 300_000,
};

/** The bundle has the process as a program of its own beside it; the sources run as they are. */
const PROGRAM = new URL(
  import.meta.url.endsWith('.ts') ? './service-process.ts' : './cache-service.js',
  import.meta.url,
);

/**
 * GNU tar takes these before @actions/cache's own, which allow absolute names and links: whatever an archive says, each
 * member is unpacked as a file of that base name in the entries folder.
 * https://www.gnu.org/software/tar/manual/html_section/transform.html
 */
const TAR_OPTIONS = `--no-same-owner --no-same-permissions --transform=s,/*$,,;s,^.*/,,;s,^,${ENTRIES}/,`;

/**
 * Whether a runner offers a cache service: the conditions of @actions/cache's isFeatureAvailable(), asked before 400 ms
 * go into loading it. A token is not among them: nektos/act has none by default. GitHub Enterprise Server has version 1
 * of the service alone.
 */
export function isServiceOffered(env: NodeJS.ProcessEnv = process.env): boolean {
  const version2 = env.ACTIONS_CACHE_SERVICE_V2 && isGitHubHost(env.GITHUB_SERVER_URL || 'https://github.com');
  return Boolean(version2 ? env.ACTIONS_RESULTS_URL : env.ACTIONS_CACHE_URL);
}

const isGitHubHost = (url: string): boolean =>
  URL.canParse(url) && /^github\.com$|\.ghe\.com$|\.localhost$/i.test(new URL(url).hostname);

interface Pending {
  resolve(outcome: Outcome): void;
}

export class CacheService {
  readonly #dir: string;
  readonly #log: Log;
  readonly #deadlines: Deadlines;
  readonly #pending = new Map<number, Pending>();
  readonly #closed = new AbortController();
  #child: ChildProcess | undefined;
  #starting: Promise<string | undefined> | undefined;
  #down: string | undefined;
  #requests = 0;

  /** `dir`: a folder of this process alone, for entries on their way and for @actions/cache's temporary files. */
  constructor(options: {
    dir: string;
    log: Log;
    signal?: AbortSignal | undefined;
    deadlines?: Partial<Deadlines> | undefined;
  }) {
    this.#dir = options.dir;
    this.#log = options.log;
    this.#deadlines = { ...DEADLINES, ...options.deadlines };
    const cancel = (): void => this.close('cancelled');
    options.signal?.addEventListener('abort', cancel, { once: true });
    if (options.signal?.aborted) cancel();
  }

  /** Where the file of an entry lies: put it there before `save`, find it there after `restore`. */
  path(file: string): string {
    return join(this.#dir, ENTRIES, file);
  }

  /** Why nothing more is asked of the service; undefined while it works. */
  get down(): string | undefined {
    return this.#down;
  }

  /** Fetches the entry with this key, or the newest whose key begins with it, into `path(file)`. */
  restore(key: string, file: string): Promise<Outcome> {
    return this.#ask('restore', key, file, this.#deadlines.restore);
  }

  /** A small entry, on which the push waits: as `restore`, under the short deadline. */
  restoreSmall(key: string, file: string): Promise<Outcome> {
    return this.#ask('restore', key, file, this.#deadlines.lookup);
  }

  /** Whether there is an entry with this very key. */
  async lookup(key: string, file: string): Promise<Outcome> {
    const outcome = await this.#ask('lookup', key, file, this.#deadlines.lookup);
    return outcome.kind === 'hit' && outcome.key !== key ? { kind: 'miss' } : outcome;
  }

  /** Saves `path(file)` under a key. `taken`: another job has saved it, or is about to. */
  save(key: string, file: string): Promise<Outcome> {
    return this.#ask('save', key, file, this.#deadlines.save);
  }

  /** Ends the process, and with it whatever is under way. Nothing can be asked afterwards. */
  close(why = 'closed'): void {
    this.#down ??= why;
    this.#closed.abort();
    this.#child?.kill('SIGKILL');
    for (const { resolve } of this.#pending.values()) resolve({ kind: 'trouble', why });
  }

  async #ask(action: ServiceRequest['action'], key: string, file: string, deadline: number): Promise<Outcome> {
    this.#starting ??= this.#start();
    this.#down ??= await this.#starting;
    const child = this.#child;
    if (this.#down !== undefined || !child) return { kind: 'trouble', why: this.#down ?? 'closed' };
    const id = ++this.#requests;
    const answered = new Promise<Outcome>((resolve) => this.#pending.set(id, { resolve }));
    const late = setTimeout(
      () => this.#giveUp(`the Actions cache did not answer within ${deadline / 1000} s`),
      deadline,
    );
    hold(child);
    child.send({ id, action, key, file } satisfies ServiceRequest, () => {});
    const outcome = await answered;
    clearTimeout(late);
    this.#pending.delete(id);
    if (this.#pending.size === 0) release(child);
    return outcome;
  }

  /** Resolves to the reason why the process is of no use, if there is one. */
  async #start(): Promise<string | undefined> {
    if (this.#down !== undefined) return this.#down;
    for (const path of [this.#dir, join(this.#dir, ENTRIES)]) await makePrivateFolder(path);
    // @actions/cache computes paths from the working folder to the workspace: both must be spelt alike.
    const folder = await realpath(this.#dir);
    const { RUNNER_DEBUG: _, ...env } = process.env;
    const child = fork(fileURLToPath(PROGRAM), {
      cwd: folder,
      env: { ...env, GITHUB_WORKSPACE: folder, RUNNER_TEMP: folder, TAR_OPTIONS },
      execArgv: [],
      serialization: 'json',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child = child;
    child.on('error', (error) => this.#giveUp(`the Actions cache can't be asked: ${error.message}`));
    child.on('exit', (code, signal) => this.#giveUp(`the process for the Actions cache ended (${signal ?? code})`));
    child.stderr?.on('data', (text) => this.#log.debug(`@actions/cache: ${readable(String(text))}`));
    return this.#awaitReady(child);
  }

  async #awaitReady(child: ChildProcess): Promise<string | undefined> {
    const signal = AbortSignal.any([AbortSignal.timeout(this.#deadlines.start), this.#closed.signal]);
    try {
      const [message] = await once(child, 'message', { signal });
      child.on('message', (answer: ServiceAnswer) => this.#answered(answer));
      if (!(message as ServiceReady).available) this.#giveUp('there is no Actions cache here');
    } catch (error) {
      this.#giveUp(`the process for the Actions cache did not start: ${(error as Error).message}`);
    }
    return this.#down;
  }

  #answered({ id, key, lines }: ServiceAnswer): void {
    for (const line of lines.map(readable)) if (line) this.#log.debug(`@actions/cache: ${line}`);
    const outcome = outcomeOf(key, lines);
    if (outcome.kind === 'trouble' && isOutage(outcome.why)) this.#giveUp(outcome.why);
    else this.#pending.get(id)?.resolve(outcome);
  }

  #giveUp(why: string): void {
    if (this.#down === undefined) this.#log.info(`layer cache: ${why}; going on without it`);
    this.close(why);
  }
}

function outcomeOf(key: string | undefined, lines: readonly string[]): Outcome {
  if (key !== undefined) return { kind: 'hit', key };
  const why = problemIn(lines);
  if (why === undefined) return { kind: 'miss' };
  return isTaken(why) ? { kind: 'taken' } : { kind: 'trouble', why };
}

/** An idle process must not keep this one alive: it ends by itself when its parent is gone. */
function release(child: ChildProcess): void {
  child.unref();
  child.channel?.unref();
  (child.stderr as Socket | null)?.unref();
}

function hold(child: ChildProcess): void {
  child.ref();
  child.channel?.ref();
}

// What @actions/cache writes to a job's log, read as answers: it reports most failures there and nowhere else.

/**
 * `::warning::text`, `::error title=x::text`.
 * https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
 */
const COMMAND = /^::(\w[\w-]*)(?: [^:]*)?::(.*)$/s;

/** How @actions/cache begins a line that says why a call came to nothing. */
const FAILURE = /^(?:Failed|Cache save skipped)/;

/** The commands whose text is meant to be read. Masks and debug lines carry signed URLs. */
const SPEAKING: ReadonlySet<string | undefined> = new Set(['warning', 'error', 'notice']);

/** A line of its log without command and signatures; empty when it is not for people. */
export function readable(line: string): string {
  const command = COMMAND.exec(line);
  if (command && !SPEAKING.has(command[1])) return '';
  const text = (command?.[2] ?? line).replaceAll('%0D', ' ').replaceAll('%0A', ' ').replaceAll('%25', '%');
  return text.replaceAll(/(https?:\/\/[^\s?]*)\?\S*/g, '$1').trim();
}

/**
 * The one debug line that is needed: the line for people says of any refusal that another job may be creating the
 * entry.
 */
const REFUSAL = /^::debug::(Failed to reserve cache: .*)$/s;

/** The last thing that went wrong in the log of one call; undefined when nothing did. */
export function problemIn(lines: readonly string[]): string | undefined {
  const refusal = lines.map((line) => REFUSAL.exec(line)?.[1]).find(Boolean);
  if (refusal) return readable(refusal);
  const problems = lines.filter((line) => /^::(?:warning|error)/.test(line) || FAILURE.test(line)).map(readable);
  return problems.at(-1);
}

/** Whether a problem is that the key is taken: version 2 of the service answers 409, version 1 says so in words. */
export const isTaken = (problem: string): boolean => /\(409\)|already exists/.test(problem);

/** Whether a problem is that of the service, not of one entry: the call failed that every restore begins with. */
export const isOutage = (problem: string): boolean => /\bgetCacheEntry/i.test(problem);
