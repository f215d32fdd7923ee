/** What goes wrong with an image before its first byte reaches a registry. */

/** The steps at which the image room can fail, as the log names them. */
type ImageStep =
  | 'Reference'
  | 'Resolve'
  | 'Export'
  | 'Archive'
  | 'Layout'
  | 'Manifest'
  | 'Merge'
  | 'Platform'
  | 'Fallback';

/** An image that can't be named, found or read: the message says what was tried and what came, `remedy` what to do. */
export class ImageError extends Error {
  readonly step: ImageStep;
  readonly remedy: string | undefined;

  constructor(step: ImageStep, message: string, options: { remedy?: string; cause?: unknown } = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.name = 'ImageError';
    this.step = step;
    this.remedy = options.remedy;
  }
}

/** The text of anything that was thrown. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Returns the ImageError that an error already is, or one of this step that has it as its cause. */
export function asImageError(error: unknown, step: ImageStep, what: string, remedy?: string): ImageError {
  if (error instanceof ImageError) return error;
  const options = { cause: error, ...(remedy === undefined ? {} : { remedy }) };
  return new ImageError(step, `${what}: ${messageOf(error)}`, options);
}

// What went wrong while a layer was read, compressed or kept on disk.

/**
 * The first line says what was being done and what came back; `remedy` says what the user can do, where there is
 * something.
 */
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

/**
 * The cause itself when it is a typed error of some room (it says already what, why and what to do), else a LayerError
 * about `what`.
 */
export function layerError(what: string, cause: unknown): Error {
  if (cause instanceof Error && 'remedy' in cause) return cause;
  return new LayerError(what, { cause });
}
