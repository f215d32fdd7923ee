/** The action's main step: inputs, push, outputs. */

import { getInput } from '@actions/core';
import { endingSignals } from '../common/platform.ts';
import { examine } from '../push/doctor.ts';
import { INPUT_NAMES, type RawInputs } from '../push/input-values.ts';
import { type MergeRequest, type PushRequest, parseRequest, type RequestOptions } from '../push/options.ts';
import { push } from '../push/push.ts';
import { diagnosisLines } from '../report/lines.ts';
import {
  captureConsole,
  fail,
  failPartly,
  type Log,
  openLog,
  print,
  privateLayersNotice,
  workDir,
  writeOutputs,
} from './runner.ts';

/** Runs the step to its end; a failure is reported in the log and by the exit code. */
export async function runStep(): Promise<void> {
  captureConsole();
  // An error that is awaited nowhere is a bug, and has to be in the log as every other failure.
  process.once('uncaughtException', (error) => {
    fail(error);
    process.exit();
  });
  await step().catch(fail);
}

async function step(): Promise<void> {
  const cancel = cancelSignal();
  const request = readRequest();
  const log = openLog({ showHost: new Set(request.destinations.map(({ registry }) => registry)).size > 1 });
  const examining = () => (request.dryRun && !cancel.aborted ? examineAll(request, log, cancel) : undefined);
  const result = await push(request, log.report, cancel)
    // Of a dry run that fails too: it says what is in the way.
    .finally(examining)
    .finally(() => log.close());
  writeOutputs(result);
  const notice = privateLayersNotice(process.env, { ...result, usesCredentials: log.hasSecrets });
  if (notice !== undefined) print('notice', notice);
  if (result.failures.length > 0) failPartly(result);
}

/** What `chunked-push doctor` says, for each repository that a dry run would push to. */
async function examineAll(request: RequestOptions, log: Log, cancel: AbortSignal): Promise<void> {
  const repositories = Map.groupBy(request.destinations, ({ registry, repository }) => `${registry}/${repository}`);
  for (const [reference] of repositories.values()) {
    const lines = diagnosisLines(await examine(reference!, request, log.report, cancel));
    print('info', lines.join('\n'));
  }
}

/**
 * The runner cancels by SIGINT, 7.5 s later by SIGTERM, and kills the process after another 2.5 s. Sessions are deleted
 * and files removed within this time of the first signal, milliseconds.
 */
const CLEAN_UP_MS = 4500;

/**
 * A signal that is aborted at the first SIGINT or SIGTERM. The process ends after CLEAN_UP_MS even if the clean-up
 * hangs.
 */
function cancelSignal(): AbortSignal {
  const controller = new AbortController();
  const cancel = (signal: NodeJS.Signals) => {
    if (controller.signal.aborted) return;
    controller.abort(new Error(`received ${signal}`));
    setTimeout(() => process.exit(1), CLEAN_UP_MS).unref();
  };
  for (const name of endingSignals()) process.on(name, cancel);
  return controller.signal;
}

/**
 * Variables that engines, credential helpers and other children have no use for. The runner's own tokens stay in
 * `process.env`, where the process for the Actions cache takes them from; inputs are removed there too.
 */
const PRIVATE = /^(?:INPUT_.*|ACTIONS_RUNTIME_TOKEN|ACTIONS_ID_TOKEN_REQUEST_TOKEN)$/i;

/**
 * Reads and checks the inputs, once: afterwards INPUT_PASSWORD and INPUT_USERNAME are gone from the environment, and
 * the request's `env`, which children get, has none of the inputs and no token of the runner. Throws InputError.
 */
export function readRequest(): PushRequest | MergeRequest {
  // A password may begin or end with white space; nothing else does on purpose.
  const raw: RawInputs = Object.fromEntries(
    INPUT_NAMES.map((name) => [name, getInput(name, { trimWhitespace: name !== 'password' })]),
  );
  for (const name of ['INPUT_USERNAME', 'INPUT_PASSWORD']) delete process.env[name];
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !PRIVATE.test(name)));
  return parseRequest(raw, { env, workDir: workDir(), remoteCache: true });
}
