/** What passes between a push and the process that runs @actions/cache for it. */

/** Restore or save `file` (a name in the process's `entries` folder), or look whether the key is there. */
export interface ServiceRequest {
  readonly id: number;
  readonly action: 'restore' | 'lookup' | 'save';
  readonly key: string;
  readonly file: string;
}

/** The key that was found (restore, lookup) or saved; without one `lines` tell why, if there was a problem. */
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
