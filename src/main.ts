/** The action's main step: inputs, push, outputs. */
import './heap.ts';
import { cancelSignal } from './action/cancel.ts';
import { readRequest } from './action/inputs.ts';
import { openLog } from './action/log.ts';
import { fail, failPartly, writeOutputs } from './action/outputs.ts';
import { push } from './push/push.ts';
import type { PushRequest } from './push/request.ts';

async function main(): Promise<void> {
  const cancel = cancelSignal();
  const request = readRequest();
  const result = await pushWithLog(request, cancel);
  await writeOutputs(result);
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

// An error that nobody awaited is a bug, but the log must tell it as it tells every other failure.
process.once('uncaughtException', (error) => {
  fail(error);
  process.exit();
});

await main().catch(fail);
// Nothing is left to do; a connection that is kept alive must not keep the job waiting.
process.exit();
