/**
 * Writes the events of a push into the job's log: a group for each phase, lines inside it; secrets are masked before
 * anything else.
 */

import * as core from '@actions/core';
import { debug, error, info, notice, setFailed, warning } from '@actions/core';
import { plainLines, printable } from '../common/printable.ts';
import type { PushEvent, Report } from '../push/events.ts';
import { EventLines } from '../report/lines.ts';

export interface Log {
  readonly report: Report;
  /** Whether a secret was masked: the push has credentials for a registry. */
  readonly hasSecrets: boolean;
  /** Ends the last group. */
  close(): void;
}

/** `showHost`: each line names its registry, for a push to several. */
export function openLog(options: { showHost: boolean }): Log {
  const lines = new EventLines(options);
  let group: string | undefined;
  let hasSecrets = false;
  const close = () => {
    if (group !== undefined) core.endGroup();
    group = undefined;
  };
  const report = (event: PushEvent) => {
    if (event.type === 'secret') {
      hasSecrets = true;
      return core.setSecret(event.value);
    }
    if (event.type === 'phase' && event.phase !== group) {
      close();
      core.startGroup(event.phase);
      group = event.phase;
    }
    for (const { level, text } of lines.of(event)) print(level, text);
  };
  return {
    report,
    close,
    get hasSecrets() {
      return hasSecrets;
    },
  };
}

/**
 * The runner's command stream. Everything that the action prints is read by the runner line by line, and a line may be
 * a command: each text is made harmless (`printable`, `plainLines`) here, the only place that prints.
 */
type Level = 'debug' | 'info' | 'notice' | 'warning' | 'error';

const ANNOTATIONS = { debug, notice, warning, error };

/** Prints a text: plain lines for `info`, for the others one annotation, which may have several lines. */
export function print(level: Level, text: string): void {
  if (level === 'info') info(plainLines(text));
  else ANNOTATIONS[level](printable(text));
}

/** The step's one error: an annotation, and the exit code 1. */
export const printFailure = (text: string): void => setFailed(printable(text));

/**
 * Whatever a library writes by `console` becomes debug lines: @actions/io reports folders of PATH that it may not
 * enter, with their names.
 */
export function captureConsole(): void {
  for (const method of ['log', 'info', 'warn', 'error', 'debug'] as const) {
    console[method] = (...values: unknown[]) => print('debug', values.map(String).join(' '));
  }
}
