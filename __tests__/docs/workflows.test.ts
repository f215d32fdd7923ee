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
  readonly run?: string;
  readonly with?: Readonly<Record<string, unknown>>;
}
interface Job {
  /** A workflow that the job calls, in place of steps. */
  readonly uses?: string;
  readonly steps?: readonly Step[];
  readonly needs?: string | readonly string[];
  readonly permissions?: Readonly<Record<string, string>>;
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
    const merge = `{ uses: ${OUR_ACTION}@v1, with: { merge: a, tags: b } }`;
    expect(await objections(workflow(merge), 'workflow')).toEqual([]);
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
    for (const job of Object.values(workflow.jobs)) {
      // The jobs of a called workflow have limits of their own; GitHub takes none beside `uses`.
      if (job.uses !== undefined) expect(WORKFLOWS.map((path) => `./${path}`)).toContain(job.uses);
      else expect(job['timeout-minutes']).toBeGreaterThan(0);
    }
  });

  it('pins actions by their full SHA, with the version beside it', () => {
    const used = read(path)
      .split('\n')
      .filter((line) => /^\s*(- )?uses:/.test(line) && !line.includes('./'));
    for (const line of used) expect(line).toMatch(/uses: [\w-]+\/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
    expect(used).toHaveLength(stepsOf(read(path)).filter(({ uses }) => uses && !uses.startsWith('./')).length);
  });

  it('keeps the token out of .git/config', () => {
    for (const { uses, with: inputs } of stepsOf(read(path)))
      if (uses?.startsWith('actions/checkout@')) expect(inputs).toMatchObject({ 'persist-credentials': false });
  });

  it('runs no code of packages or of the repository where a token may write', () => {
    for (const [name, { permissions = {}, steps = [] }] of Object.entries(workflow.jobs)) {
      if (!Object.values(permissions).includes('write')) continue;
      for (const { run = '', uses = '' } of steps) {
        expect(uses, name).not.toMatch(/^\.\//);
        // A finished package is handed to the registry; npm starts no script of it.
        const commands = run.replace(/^npm publish --ignore-scripts [^;&|]*$/, '').replace('$(npm --version)', '');
        expect(commands, name).not.toMatch(
          /\b(npm|npx|node|yarn|pnpm|tsx|vitest|esbuild)\b|\.ci\/|scripts\/|(^|\s)\.\//m,
        );
      }
    }
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
      expect(step.with).toHaveProperty(step.with?.merge === undefined ? 'image' : 'merge');
    }
  });

  it('is in the README', () => {
    expect(read('README.md')).toContain(`(${path})`);
  });
});

describe('release.yml', () => {
  const { jobs } = parse(read('.github/workflows/release.yml')) as Workflow;

  /** Every job that must have succeeded before this one. */
  const ancestors = (name: string): readonly string[] =>
    [jobs[name]!.needs ?? []].flat().flatMap((needed) => [needed, ...ancestors(needed)]);

  it('tests, attests, publishes the package and the release, and moves the major tag last', () => {
    const moving = Object.entries(jobs).filter(([, { steps = [] }]) =>
      steps.some(({ run }) => run?.includes('refs/tags/$major')),
    );
    expect(moving).toHaveLength(1);
    const [[name, { steps = [] }]] = moving as [[string, Job]];
    expect(new Set(ancestors(name))).toEqual(new Set(Object.keys(jobs).filter((other) => other !== name)));
    const script = steps.at(-1)!.run!;
    expect(script.indexOf('gh release edit')).toBeGreaterThanOrEqual(0);
    expect(script.indexOf('gh release edit')).toBeLessThan(script.indexOf('--method PATCH'));
  });
});

/** The major versions of other actions that the documents show. */
const TODAYS: Readonly<Record<string, string>> = {
  'actions/attest': 'v4',
  'actions/checkout': 'v7',
  'actions/upload-artifact': 'v7',
  'aws-actions/amazon-ecr-login': 'v2',
  'aws-actions/configure-aws-credentials': 'v6',
  'docker/bake-action': 'v7',
  'docker/build-push-action': 'v7',
  'docker/login-action': 'v4',
  'docker/metadata-action': 'v6',
  'docker/setup-buildx-action': 'v4',
  'docker/setup-qemu-action': 'v4',
  [OUR_ACTION]: 'v1',
};

describe('the documents', () => {
  const documents = ['.', 'docs', 'examples'].flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => /\.(md|yml)$/.test(name))
      .map((name) => `${folder}/${name}`),
  );

  it('show actions in the versions of today', () => {
    const shown = documents.flatMap((path) => [...read(path).matchAll(/uses: ([\w-]+\/[\w-]+)@(v[\d.]+)/g)]);
    expect(shown.length).toBeGreaterThan(20);
    for (const [text, action = '', version] of shown) expect(version, text).toBe(TODAYS[action]);
  });
});

describe('dependabot', () => {
  interface Update {
    readonly 'package-ecosystem': string;
    readonly groups: Readonly<Record<string, { patterns: readonly string[]; 'exclude-patterns'?: readonly string[] }>>;
  }
  const { updates } = parse(read('.github/dependabot.yml')) as { updates: readonly Update[] };

  it('keeps npm and actions up to date', () => {
    expect(updates.map((update) => update['package-ecosystem']).sort()).toEqual(['github-actions', 'npm']);
  });

  it('groups the packages that change dist apart from the tools', () => {
    const { bundled, tools } = updates.find((update) => update['package-ecosystem'] === 'npm')!.groups;
    const licensed = new Set([...read('dist/licenses.txt').matchAll(/^(\S+) \d+\.\S* \(/gm)].map(([, name]) => name));
    const ours = Object.keys(JSON.parse(read('package.json')).devDependencies).filter((name) => licensed.has(name));
    expect(bundled!.patterns).toEqual(expect.arrayContaining(ours));
    expect(tools!['exclude-patterns']).toEqual(bundled!.patterns);
  });
});
