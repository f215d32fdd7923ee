/** The error of an upload that can not go on. */

/**
 * An upload that cannot go on for a reason that is not one answer of the registry: limits that contradict each other,
 * tries or patience that are used up.
 */
export class UploadError extends Error {
  override readonly name = 'UploadError';
  /** What to do about it, for the log's error line. */
  readonly remedy: string | undefined;

  constructor(message: string, options: { readonly remedy?: string | undefined; readonly cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.remedy = options.remedy;
  }
}
