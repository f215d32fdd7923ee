/** The states of one blob's upload. */
import type { RegistryError } from '../error.ts';
import type { BlobOutcome } from './upload.ts';

/** T4: nobody knows what the registry holds. */
export interface Asking {
  readonly at: 'ask';
  readonly error: RegistryError;
}

/** T5: the session is given up. `counted`: its failure was already counted and waited for. */
export interface Reopening {
  readonly at: 'reopen';
  readonly error: RegistryError;
  readonly counted: boolean;
}

/** T8: nobody knows whether the blob is there. `idempotent`: the closing request had no body, so it may be sent again as it is. */
export interface Settling {
  readonly at: 'settle';
  readonly error: RegistryError;
  readonly idempotent: boolean;
}

export type State =
  /** T1: what is known of the blob, and does the registry have it? */
  | { readonly at: 'look' }
  /** T1: a session has to be opened. */
  | { readonly at: 'open' }
  /** T2: the session's offset is known, the next bytes go. */
  | { readonly at: 'send' }
  | Asking
  | Reopening
  | Settling
  | { readonly at: 'done'; readonly what: BlobOutcome['what'] };
