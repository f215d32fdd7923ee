/** The action's inputs and surroundings, as the runner gives them. */

import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getInput } from '@actions/core';
import { INPUT_NAMES, type RawInputs } from '../push/input-values.ts';
import { type MergeRequest, type PushRequest, parseRequest } from '../push/options.ts';

/** Reads and checks the inputs. Throws InputError. */
export function readRequest(): PushRequest | MergeRequest {
  // A password may begin or end with white space; nothing else does on purpose.
  const raw: RawInputs = Object.fromEntries(
    INPUT_NAMES.map((name) => [name, getInput(name, { trimWhitespace: name !== 'password' })]),
  );
  return parseRequest(raw, { env: process.env, workDir: workDir(), remoteCache: true });
}

/** The same in every run on the same kind of runner: the Actions cache keeps files under their paths. */
const workDir = (): string => join(process.env.RUNNER_TEMP || tmpdir(), 'chunked-push');
