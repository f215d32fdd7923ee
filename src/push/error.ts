/**
 * Failures of a push, reported so that the first line says which step failed, what the other side said, and what to do.
 */

/** A failure that the push itself found; failures of the rooms below keep their own classes. */
export class PushError extends Error {
  readonly step: string;
  readonly remedy: string | undefined;

  constructor(step: string, message: string, options: { remedy?: string; cause?: unknown } = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.name = 'PushError';
    this.step = step;
    this.remedy = options.remedy;
  }
}

/** The push was ended from outside: a signal, the runner's cancel button. Never followed by a fallback. */
export class CancelledError extends PushError {
  constructor(cause?: unknown) {
    super('Cancelled', 'the push was cancelled', { cause });
    this.name = 'CancelledError';
  }
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
