/** Writes what a push tells into the job's log: a group a phase, lines inside, secrets masked before anything else. */

import * as core from '@actions/core';
import type { PushEvent, Report } from '../push/events.ts';
import { type Line, LineTeller } from '../report/lines.ts';

export interface Log {
  readonly report: Report;
  /** Ends the last group. */
  close(): void;
}

/** `showHost`: several registries are pushed to, so each line says which. */
export function openLog(options: { showHost: boolean }): Log {
  const teller = new LineTeller(options);
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
    for (const line of teller.tell(event)) write(line);
  };
  return { report, close };
}

const WRITERS = { debug: core.debug, info: core.info, notice: core.notice, warning: core.warning };

function write({ level, text }: Line): void {
  WRITERS[level](text);
}
