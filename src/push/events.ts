/** What a push tells while it runs. The action writes it as log lines, the terminal as bars; neither is known here. */
import type { Digest } from '../oci/types.ts';

/** The phases of a push, in order; each is one group of the action's log. */
export type Phase = 'Resolve' | 'Export' | 'Upload' | 'Manifest';

/** What became of a blob at a registry. */
export type BlobFate = 'uploaded' | 'exists' | 'mounted';

export type PushEvent =
  | { readonly type: 'phase'; readonly phase: Phase }
  | { readonly type: 'info' | 'notice' | 'warning' | 'debug'; readonly text: string }
  | { readonly type: 'secret'; readonly value: string }
  /** A blob begins to move to a registry. `label` names it until its `blob-end`. */
  | { readonly type: 'blob-start'; readonly label: string; readonly host: string; readonly size: number | undefined }
  /**
   * How far a blob has come: the bytes handed to the network, and of them those that the registry has confirmed. Both go
   * back when bytes must be sent again. `size` as soon as it is known.
   */
  | {
      readonly type: 'blob-progress';
      readonly label: string;
      readonly host: string;
      readonly sent: number;
      readonly confirmed: number;
      readonly size: number | undefined;
    }
  | {
      readonly type: 'blob-end';
      readonly label: string;
      readonly host: string;
      readonly digest: Digest;
      readonly size: number;
      readonly fate: BlobFate;
      readonly seconds: number;
      readonly retries: number;
      readonly fromCache: boolean;
    }
  | {
      readonly type: 'retry';
      readonly label: string;
      readonly host: string;
      readonly reason: string;
      readonly attempt: number;
      readonly waitMs: number;
      /** Part of a wait that the log has (`waiting`). */
      readonly waiting?: boolean;
    }
  /** A registry is away, or asks for fewer requests: it is waited for, `maxWaitMs` at most. Once, until `resumed`. */
  | {
      readonly type: 'waiting';
      readonly host: string;
      readonly reason: string;
      readonly limited: boolean;
      readonly maxWaitMs: number;
    }
  /** A registry answers again. */
  | { readonly type: 'resumed'; readonly host: string; readonly waitedMs: number }
  /** The largest request body that a host was found (or announced) to take, bytes; `time`: since larger ones break or take too long. */
  | {
      readonly type: 'limit';
      readonly host: string;
      readonly bytes: number;
      readonly announced: boolean;
      readonly by?: 'size' | 'time';
    }
  /** Plain bytes of layers read and compressed bytes made so far, in all. */
  | { readonly type: 'made'; readonly read: number; readonly written: number };

export type Report = (event: PushEvent) => void;
