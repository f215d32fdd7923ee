/** Writes the events of a push into the job's log: a group for each phase, lines inside it; secrets are masked before anything else. */

import * as core from '@actions/core';
import type { PushEvent, Report } from '../push/events.ts';
import { EventLines } from '../report/lines.ts';
import { print } from './commands.ts';

export interface Log {
  readonly report: Report;
  /** Ends the last group. */
  close(): void;
}

/** `showHost`: each line names its registry, for a push to several. */
export function openLog(options: { showHost: boolean }): Log {
  const lines = new EventLines(options);
  let group: string | undefined;
  const close = () => {
    if (group !== undefined) core.endGroup();
    group = undefined;
  };
  const report = (event: PushEvent) => {
    if (event.type === 'secret') return core.setSecret(event.value);
    if (event.type === 'phase' && event.phase !== group) {
      close();
      core.startGroup(event.phase);
      group = event.phase;
    }
    for (const { level, text } of lines.of(event)) print(level, text);
  };
  return { report, close };
}
