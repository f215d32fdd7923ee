/** What passes between a push and the process that runs @actions/cache for it. */

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

/** What @actions/cache writes to a job's log, read as answers: it reports most failures there and nowhere else. */

/** `::warning::text`, `::error title=x::text`. https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands */
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

/** The one debug line that is needed: the line for people says of any refusal that another job may be creating the entry. */
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
