/** What the tests read from a run's `metadata` output: by its public names, not by the types of src. */
import type { ActionRun } from '../support/runner.ts';

export interface PushMetadata {
  readonly tags: readonly { readonly reference: string; readonly digest?: string; readonly error?: string }[];
  readonly blobs: readonly BlobMetadata[];
  readonly bytesSent: number;
  readonly bytesResent: number;
  readonly limits: Readonly<Record<string, number>>;
}

export interface BlobMetadata {
  readonly digest: string;
  readonly size: number;
  readonly mediaType: string;
  readonly registry: string;
  readonly fromCache: boolean;
  readonly bytesSent: number;
  readonly what: 'uploaded' | 'exists' | 'mounted';
}

/** The parsed `metadata` output. Throws when there is none. */
export const metadataOf = (run: ActionRun): PushMetadata => JSON.parse(run.outputs.metadata ?? '') as PushMetadata;
