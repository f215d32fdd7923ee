/** Runs a part of src/action as a step of a job runs: a process with command files and INPUT_* variables, and nothing else. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readCommands, readValues, type WorkflowCommands } from '../support/runner-files.ts';

const PROGRAM = fileURLToPath(new URL('./program.ts', import.meta.url));

export interface StepRun extends WorkflowCommands {
  readonly exitCode: number | null;
  readonly log: string;
  readonly outputs: Readonly<Record<string, string>>;
  readonly state: Readonly<Record<string, string>>;
  /** What the summary's file holds; undefined where there is none. */
  readonly summary: string | undefined;
}

export interface StepOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** What the summary's file holds before; no file for `null`. */
  readonly summary?: string | null;
}

/** Runs one part of program.ts on `given`. */
export function runPart(part: string, given?: unknown, { env = {}, summary = '' }: StepOptions = {}): StepRun {
  const folder = mkdtempSync(join(tmpdir(), 'action-test-'));
  try {
    const [output, state, told] = ['output', 'state', 'summary'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    for (const file of [output, state]) writeFileSync(file, '');
    if (summary !== null) writeFileSync(told, summary);
    const files = { GITHUB_OUTPUT: output, GITHUB_STATE: state, GITHUB_STEP_SUMMARY: told };
    const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, part], {
      env: { PATH: process.env.PATH, ...files, ...env },
      input: given === undefined ? '' : JSON.stringify(given),
      encoding: 'utf8',
    });
    // Node's own word on running TypeScript is none of the step's.
    if (stderr !== '') throw new Error(stderr);
    return {
      ...readCommands(stdout),
      exitCode: status,
      log: stdout,
      outputs: readValues(readFileSync(output, 'utf8')),
      state: readValues(readFileSync(state, 'utf8')),
      summary: existsSync(told) ? readFileSync(told, 'utf8') : undefined,
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
