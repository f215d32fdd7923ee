/** What went wrong while a layer was read, compressed or kept on disk. */

/** The first line says what was being done and what came back; `remedy` says what the user can do, where there is something. */
export class LayerError extends Error {
  readonly step = 'Layer';
  /** What was being done. */
  readonly what: string;
  readonly remedy: string | undefined;

  constructor(what: string, options: { cause?: unknown; remedy?: string } = {}) {
    super(options.cause === undefined ? what : `${what}: ${saidBy(options.cause)}`, { cause: options.cause });
    this.name = 'LayerError';
    this.what = what;
    this.remedy = options.remedy;
  }
}

const saidBy = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));

/** The cause itself when it is a typed error of some room (it says already what, why and what to do), else a LayerError about `what`. */
export function layerError(what: string, cause: unknown): Error {
  if (cause instanceof Error && 'remedy' in cause) return cause;
  return new LayerError(what, { cause });
}
