/**
 * The runner's command stream. Everything that the action prints is read by the runner line by line, and a line may be a command:
 * each text is made harmless (`printable`) here, the only place that prints.
 */

import { debug, error, info, notice, setFailed, warning } from '@actions/core';
import { plainLines, printable } from '../common/printable.ts';

export type Level = 'debug' | 'info' | 'notice' | 'warning' | 'error';

const ANNOTATIONS = { debug, notice, warning, error };

/** Prints a text: plain lines for `info`, for the others one annotation, which may have several lines. */
export function print(level: Level, text: string): void {
  if (level === 'info') info(plainLines(text));
  else ANNOTATIONS[level](printable(text));
}

/** The step's one error: an annotation, and the exit code 1. */
export const printFailure = (text: string): void => setFailed(printable(text));

/**
 * Whatever a library writes by `console` becomes debug lines: @actions/io reports folders of PATH that it may not enter, with their
 * names.
 */
export function captureConsole(): void {
  for (const method of ['log', 'info', 'warn', 'error', 'debug'] as const) {
    console[method] = (...values: unknown[]) => print('debug', values.map(String).join(' '));
  }
}
