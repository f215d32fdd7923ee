/**
 * Failures as values: which step failed (`step`), what was tried and what came back (the message, with its `cause`),
 * and what the user can do (`remedy`, where there is something). Errors of requests and of credentials have the same
 * fields.
 */

class StepError<Step extends string = string> extends Error {
  readonly step: Step;
  readonly remedy: string | undefined;

  constructor(step: Step, message: string, options: { remedy?: string; cause?: unknown } = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.step = step;
    this.remedy = options.remedy;
  }
}

/** The steps before an image's first byte reaches a registry, as the log names them. */
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

/** An image that can't be named, found or read: the message says what was tried and what came. */
export class ImageError extends StepError<ImageStep> {
  override readonly name = 'ImageError';
}

/** What went wrong while a layer was read, compressed or kept on disk. */
export class LayerError extends StepError<'Layer'> {
  override readonly name: string = 'LayerError';
  /** What was being done. */
  readonly what: string;

  /** The message says what was being done and what came back. */
  constructor(what: string, options: { cause?: unknown; remedy?: string } = {}) {
    super('Layer', options.cause === undefined ? what : `${what}: ${messageOf(options.cause)}`, options);
    this.what = what;
  }
}

/** A failure that the push itself found; failures of the rooms below keep their own classes. */
export class PushError extends StepError {
  override readonly name: string = 'PushError';
}

/** The push was ended from outside: a signal, the runner's cancel button. Never followed by a fallback. */
export class CancelledError extends PushError {
  override readonly name = 'CancelledError';

  constructor(cause?: unknown) {
    super('Cancelled', 'the push was cancelled', { cause });
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

/**
 * The cause itself when it is a typed error of some room (it says already what, why and what to do), else a LayerError
 * about `what`.
 */
export function layerError(what: string, cause: unknown): Error {
  if (cause instanceof Error && 'remedy' in cause) return cause;
  return new LayerError(what, { cause });
}

/** One failure as the log has it: the step that failed, what happened, and the remedy where there is one. */
interface Explanation {
  readonly step: string;
  readonly message: string;
  readonly remedy: string | undefined;
}

/** Explains any error of any room: all of them may carry `step` and `remedy`. */
export function explain(error: unknown, step = 'Push'): Explanation {
  if (!(error instanceof Error)) return { step, message: String(error), remedy: undefined };
  const fields = error as Error & { step?: unknown; remedy?: unknown };
  return {
    step: typeof fields.step === 'string' ? fields.step : step,
    message: error.message,
    remedy: typeof fields.remedy === 'string' ? fields.remedy : undefined,
  };
}

/** One line: `step: message: remedy`. Errors of requests begin with their step already. */
export function explainLine(error: unknown, step?: string): string {
  const explained = explain(error, step);
  const line = stepAndMessage(explained);
  return explained.remedy ? `${line}: ${explained.remedy}` : line;
}

/** `step: message`, the step once. */
export const stepAndMessage = ({ step, message }: Explanation): string =>
  message.startsWith(`${step}: `) ? message : `${step}: ${message}`;
