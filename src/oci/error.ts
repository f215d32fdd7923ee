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

/** Gives the ImageError that an error already is, or one of this step that has it as its cause. */
export function asImageError(error: unknown, step: ImageStep, what: string, remedy?: string): ImageError {
  if (error instanceof ImageError) return error;
  const options = { cause: error, ...(remedy === undefined ? {} : { remedy }) };
  return new ImageError(step, `${what}: ${messageOf(error)}`, options);
}
