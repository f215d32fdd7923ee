/** The action's main step: inputs, push, outputs. */

import { type EarlyQuestions, expectAnswers } from '../image/engine/socket.ts';
import { push } from '../push/push.ts';
import type { PushRequest } from '../push/request.ts';
import { cancelSignal } from './cancel.ts';
import { readRequest } from './inputs.ts';
import { openLog } from './log.ts';
import { fail, failPartly, writeOutputs } from './outputs.ts';

/** Runs the step to its end; a failure is told in the log and by the exit code. `asked`: what the engine was asked already. */
export async function runStep(asked: EarlyQuestions): Promise<void> {
  expectAnswers(asked);
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

async function pushWithLog(request: PushRequest, cancel: AbortSignal) {
  const log = openLog({ showHost: new Set(request.destinations.map(({ registry }) => registry)).size > 1 });
  try {
    return await push(request, log.report, cancel);
  } finally {
    log.close();
  }
}
