/** Runs a workflow's jobs one after the other as GitHub would: matrix, conditions, expressions, outputs. Its steps are the caller's. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { data, Evaluator, Lexer, Parser } from '@actions/expressions';
import { parse } from 'yaml';
import { readValues } from './runner-files.ts';

type Texts = Readonly<Record<string, string>>;

interface Step {
  readonly id?: string;
  readonly if?: string;
  readonly uses?: string;
  readonly run?: string;
  readonly with?: Readonly<Record<string, unknown>>;
  readonly env?: Readonly<Record<string, unknown>>;
}

interface Job {
  readonly 'runs-on': string;
  readonly env?: Readonly<Record<string, unknown>>;
  readonly outputs?: Texts;
  readonly strategy?: { readonly matrix: Readonly<Record<string, unknown>> };
  readonly steps: readonly Step[];
}

/** One step that uses an action, all expressions evaluated. */
export interface UsedAction {
  /** `owner/name`, without its version. */
  readonly action: string;
  readonly inputs: Texts;
  readonly env: Texts;
  readonly runsOn: string;
}

export interface WorkflowWorld {
  /** The contexts `github`, `secrets`, and `inputs` of a workflow that is started by hand. */
  readonly github: Texts;
  readonly secrets: Texts;
  readonly inputs?: Texts;
  /** Where `run` steps work, with PATH and whatever else they need. */
  readonly folder: string;
  readonly env: Texts;
  /** Does what an action does. Returns its outputs. */
  uses(step: UsedAction): Promise<Texts>;
}

type Contexts = Readonly<Record<string, unknown>>;

/** Runs all jobs in the order of the file. Throws an Error for a `run` step that fails, and what `uses` throws. */
export async function runWorkflow(text: string, world: WorkflowWorld): Promise<void> {
  const { jobs } = parse(text) as { jobs: Readonly<Record<string, Job>> };
  const needs: Record<string, { outputs: Texts }> = {};
  for (const [name, job] of Object.entries(jobs)) {
    for (const matrix of combinations(job.strategy?.matrix)) {
      const { github, secrets, inputs = {} } = world;
      const base = { github, secrets, inputs, matrix, needs };
      needs[name] = { outputs: await runJob(job, base, world) };
    }
  }
}

async function runJob(job: Job, base: Contexts, world: WorkflowWorld): Promise<Texts> {
  const steps: Record<string, { outputs: Texts }> = {};
  const contexts = { ...base, steps };
  const runsOn = filled(job['runs-on'], contexts);
  for (const step of job.steps) {
    if (step.if !== undefined && evaluated(step.if, contexts) !== 'true') continue;
    const env = { ...filledAll(job.env, contexts), ...filledAll(step.env, contexts) };
    const [action = ''] = step.uses?.split('@') ?? [];
    const outputs =
      step.run === undefined
        ? await world.uses({ action, inputs: filledAll(step.with, contexts), env, runsOn })
        : runScript(filled(step.run, contexts), env, world);
    if (step.id !== undefined) steps[step.id] = { outputs };
  }
  return filledAll(job.outputs, contexts);
}

/** GitHub runs `run` with `bash -e`. */
function runScript(script: string, env: Texts, world: WorkflowWorld): Texts {
  const folder = mkdtempSync(join(tmpdir(), 'chunked-push-script-'));
  try {
    const output = join(folder, 'output');
    writeFileSync(output, '');
    const { status, stdout, stderr } = spawnSync('bash', ['-e', '-o', 'pipefail', '-c', script], {
      cwd: world.folder,
      env: { ...world.env, ...env, GITHUB_OUTPUT: output },
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(`${script}\nended with ${status}: ${stdout}${stderr}`);
    return readValues(readFileSync(output, 'utf8'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The jobs of a matrix: of one list, or of `include` alone. */
function combinations(matrix: Readonly<Record<string, unknown>> = {}): readonly Contexts[] {
  const { include, ...lists } = matrix;
  if (Array.isArray(include)) return include as Contexts[];
  const [[key, values] = ['', ['']]] = Object.entries(lists) as [string, readonly unknown[]][];
  return values.map((value) => ({ [key]: value }));
}

const filledAll = (values: Readonly<Record<string, unknown>> = {}, contexts: Contexts): Texts =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, filled(String(value), contexts)]));

/** A text with every `${{ expression }}` in it evaluated. */
const filled = (text: string, contexts: Contexts): string =>
  text.replaceAll(/\$\{\{(.*?)\}\}/gs, (_, expression: string) => evaluated(expression, contexts));

/** GitHub's own evaluator. */
function evaluated(expression: string, contexts: Contexts): string {
  const tree = new Parser(new Lexer(expression).lex().tokens, Object.keys(contexts), []).parse();
  return new Evaluator(tree, dataOf(contexts) as data.Dictionary).evaluate().coerceString();
}

function dataOf(value: unknown): data.ExpressionData {
  if (typeof value !== 'object' || value === null) return new data.StringData(String(value));
  return new data.Dictionary(...Object.entries(value).map(([key, one]) => ({ key, value: dataOf(one) })));
}
