/** What went wrong with an engine's own files: always an obstacle (save does it then), never a reason to push something else. */

export interface StoreErrorFacts {
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
