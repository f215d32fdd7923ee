/**
 * The runner's command stream. Everything that the action prints is read by the runner line by line, and a line may be a command
 * (https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs): `::name::` at its start after white space, or
 * `##[name]` anywhere in it. A registry whose error text has one could set state, hide its traces or stop the masking of secrets, so
 * each text is made harmless here, the only place that prints.
 */

import { debug, error, info, notice, setFailed, warning } from '@actions/core';
import { printable } from '../common/printable.ts';

export type Level = 'debug' | 'info' | 'notice' | 'warning' | 'error';

const ANNOTATIONS = { debug, notice, warning, error };

/** Prints a text: plain lines for `info`, for the others one annotation, which may have several lines. */
export function print(level: Level, text: string): void {
  if (level === 'info') for (const line of printable(text).split('\n')) info(harmlessLine(line));
  else ANNOTATIONS[level](harmlessData(text));
}

/** The step's one error: an annotation, and the exit code 1. */
export const printFailure = (text: string): void => setFailed(harmlessData(text));

/**
 * Whatever a library writes by `console` becomes debug lines: @actions/io reports folders of PATH that it may not enter, with their
 * names.
 */
export function captureConsole(): void {
  for (const method of ['log', 'info', 'warn', 'error', 'debug'] as const) {
    console[method] = (...values: unknown[]) => print('debug', values.map(String).join(' '));
  }
}

/** A line that the runner shows as it is. */
const harmlessLine = (line: string): string =>
  harmlessData(line).replace(/^\s*::/, (start) => start.replace('::', ': :'));

/** The text of an annotation: @actions/core escapes its line breaks, and what follows `::name::` is no command. */
const harmlessData = (text: string): string => printable(text).replaceAll('##[', '## [');
