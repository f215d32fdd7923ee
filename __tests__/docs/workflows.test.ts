import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { metadata, OUR_ACTION, objections, read, root } from './language-service.ts';

const files = (folder: string): readonly string[] =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith('.yml'))
    .map((name) => `${folder}/${name}`);

const WORKFLOWS = files('.github/workflows');
const EXAMPLES = files('examples').filter((path) => !path.includes('gitlab'));

interface Step {
  readonly uses?: string;
  readonly with?: Readonly<Record<string, unknown>>;
}
interface Job {
  readonly steps?: readonly Step[];
  readonly permissions?: object;
  readonly 'timeout-minutes'?: number;
}
interface Workflow {
  readonly permissions?: object;
  readonly jobs: Readonly<Record<string, Job>>;
}

const stepsOf = (text: string): readonly Step[] =>
  Object.values((parse(text) as Workflow).jobs).flatMap(({ steps = [] }) => steps);

describe('the validator itself', () => {
  const workflow = (step: string) => `on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - ${step}\n`;

  it('finds what is wrong', async () => {
    expect(await objections(workflow('{ uses: actions/checkout@v5, wiht: {} }'), 'workflow')).not.toEqual([]);
    expect(await objections(workflow(`{ run: echo, env: { A: "\${{ nonsense.b }}" } }`), 'workflow')).not.toEqual([]);
    const step = `{ uses: ${OUR_ACTION}@v1, with: { image: a, chunksize: 1 } }`;
    expect((await objections(workflow(step), 'workflow')).join()).toContain('chunksize');
    expect((await objections(workflow(`{ uses: ${OUR_ACTION}@v1 }`), 'workflow')).join()).toContain('image');
    expect(await objections('name: a\nruns:\n  using: node99\n', 'action')).not.toEqual([]);
  });

  it('is content with what is right', async () => {
    expect(await objections(workflow(`{ uses: ${OUR_ACTION}@v1, with: { image: a } }`), 'workflow')).toEqual([]);
  });
});

describe.each([...WORKFLOWS, ...EXAMPLES])('%s', (path) => {
  const text = read(path);

  it('is what GitHub expects', async () => {
    expect(await objections(text, 'workflow')).toEqual([]);
  });

  it('says what it may do', () => {
    expect((parse(text) as Workflow).permissions).toMatchObject({ contents: 'read' });
  });
});

describe.each(WORKFLOWS)('%s', (path) => {
  const workflow = parse(read(path)) as Workflow;

  it('may read alone, unless a job says more', () => {
    expect(workflow.permissions).toEqual({ contents: 'read' });
  });

  it('ends some day', () => {
    for (const job of Object.values(workflow.jobs)) expect(job['timeout-minutes']).toBeGreaterThan(0);
  });

  it('pins actions by their full SHA, with the version beside it', () => {
    const used = read(path)
      .split('\n')
      .filter((line) => /^\s*(- )?uses:/.test(line) && !line.includes('./'));
    for (const line of used) expect(line).toMatch(/uses: [\w-]+\/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
    expect(used).toHaveLength(stepsOf(read(path)).filter(({ uses }) => uses && !uses.startsWith('./')).length);
  });

  it('starts only scripts that are there', () => {
    const scripts = Object.keys(JSON.parse(read('package.json')).scripts);
    for (const [, name] of read(path).matchAll(/npm run ([\w-]+)/g)) expect(scripts).toContain(name);
    for (const [, script] of read(path).matchAll(/bash (\S+)/g)) expect(existsSync(join(root, script!))).toBe(true);
  });
});

describe.each(EXAMPLES)('%s', (path) => {
  it('uses this action, with inputs that it has', () => {
    const ours = stepsOf(read(path)).filter(({ uses }) => uses?.startsWith(`${OUR_ACTION}@`));
    expect(ours.length).toBeGreaterThan(0);
    for (const step of ours) {
      expect(step.uses).toBe(`${OUR_ACTION}@v1`);
      for (const name of Object.keys(step.with ?? {})) expect(metadata.inputs).toHaveProperty([name]);
      expect(step.with).toHaveProperty('image');
    }
  });

  it('is in the README', () => {
    expect(read('README.md')).toContain(`(${path})`);
  });
});

describe('dependabot', () => {
  it('keeps npm and actions up to date', () => {
    const { updates } = parse(read('.github/dependabot.yml')) as { updates: { 'package-ecosystem': string }[] };
    expect(updates.map((update) => update['package-ecosystem']).sort()).toEqual(['github-actions', 'npm']);
  });
});
