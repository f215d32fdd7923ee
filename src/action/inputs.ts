/** The action's inputs and the runner's environment. */

import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getInput } from '@actions/core';
import { INPUT_NAMES, type RawInputs } from '../push/input-values.ts';
import { type MergeRequest, type PushRequest, parseRequest } from '../push/options.ts';

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

/** The same in every run on the same kind of runner: the Actions cache keeps files under their paths. */
export const workDir = (): string => join(process.env.RUNNER_TEMP || tmpdir(), 'chunked-push');
