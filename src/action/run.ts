/** The action's main step: inputs, push, outputs. */

import { endingSignals } from '../common/platform.ts';
import type { MergeRequest, PushRequest } from '../push/options.ts';
import { push } from '../push/push.ts';
import { readRequest } from './inputs.ts';
import { openLog } from './log.ts';
import { fail, failPartly, writeOutputs } from './outputs.ts';

/** Runs the step to its end; a failure is told in the log and by the exit code. */
export async function runStep(): Promise<void> {
  // An error that nobody awaited is a bug, but the log must tell it as it tells every other failure.
  process.once('uncaughtException', (error) => {
    fail(error);
    process.exit();
  });
  await step().catch(fail);
}

async function step(): Promise<void> {
  const cancel = cancelSignal();
  const request = readRequest();
  const result = await pushWithLog(request, cancel);
  writeOutputs(result);
  if (result.failures.length > 0) failPartly(result);
}

async function pushWithLog(request: PushRequest | MergeRequest, cancel: AbortSignal) {
  const log = openLog({ showHost: new Set(request.destinations.map(({ registry }) => registry)).size > 1 });
  try {
    return await push(request, log.report, cancel);
  } finally {
    log.close();
  }
}

/** The runner's cancel: SIGINT, after 7.5 s SIGTERM, 2.5 s later the process is killed. */

/** What is left of the runner's patience for sessions to be deleted and files to be removed, with room to spare. Milliseconds. */
const CLEAN_UP_MS = 4500;

/** A signal that is aborted at the first SIGINT or SIGTERM; if the clean-up hangs, the process ends all the same. */
export function cancelSignal(): AbortSignal {
  const controller = new AbortController();
  const cancel = (signal: NodeJS.Signals) => {
    if (controller.signal.aborted) return;
    controller.abort(new Error(`received ${signal}`));
    setTimeout(() => process.exit(1), CLEAN_UP_MS).unref();
  };
  for (const name of endingSignals()) process.on(name, cancel);
  return controller.signal;
}
