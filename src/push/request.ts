/** What a push is asked to do, checked and typed. The action makes it from inputs, the terminal from flags. */
import type { Reference } from '../image/reference.ts';

export interface PushRequest {
  /** An image name or ID, or a file source with its transport prefix. */
  readonly image: string;
  /** Where to push it; never empty, tags only. The first one gives the `image` output. */
  readonly destinations: readonly Reference[];
  readonly credentials: { readonly username: string; readonly password: string } | undefined;
  readonly engine: 'auto' | 'docker' | 'podman';
  readonly export: 'auto' | 'save' | 'store';
  /** `os/architecture[/variant]`; empty for all that are present. */
  readonly platforms: readonly string[];
  /** The largest request body, bytes. */
  readonly chunkSize: number | 'auto';
  /** Blobs uploaded at once. */
  readonly concurrency: number;
  readonly maxRetries: number;
  readonly compression: 'gzip' | 'zstd';
  readonly compressionLevel: number | undefined;
  /** Keep and use compressed layers (locally, and in the Actions cache when `remoteCache`). */
  readonly cache: boolean;
  readonly remoteCache: boolean;
  /** Images whose layers may be reused; undefined for the destination tags and `latest` beside them. */
  readonly cacheFrom: readonly Reference[] | undefined;
  /** Bytes. */
  readonly cacheMaxSize: number;
  readonly fallback: 'none' | 'engine';
  readonly insecure: boolean;
  /** Extra CA certificates, PEM text. */
  readonly ca: string | undefined;
  readonly dryRun: boolean;
  /** A folder of ours, the same in every run on this machine: spool and compressed layers lie in it. */
  readonly workDir: string;
  readonly env: NodeJS.ProcessEnv;
}
