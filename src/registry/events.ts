/** What the registry room tells while it works. Texts hold no secrets; only `secret` does, so that it can be masked. */

export type RegistryEvent =
  /** A request failed and will be tried again in `waitMs`. `attempt` counts failures in a row, from 1. */
  | {
      readonly type: 'retry';
      readonly host: string;
      readonly label: string;
      readonly reason: string;
      readonly attempt: number;
      readonly waitMs: number;
    }
  /** The largest request body (bytes) that this host was found to take, or announced. Once for each value that holds. */
  | { readonly type: 'limit'; readonly host: string; readonly bytes: number; readonly announced: boolean }
  /** A value that must never be shown. */
  | { readonly type: 'secret'; readonly value: string }
  | { readonly type: 'warning'; readonly text: string }
  | { readonly type: 'debug'; readonly text: string };
